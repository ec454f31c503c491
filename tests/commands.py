"""The commands as a user meets them: in this process (quick) or in one of their own (what really happens)."""

import contextlib
import importlib
import io
import json
import logging
import os
import subprocess
import sys
import traceback
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from forked_python import forked_python
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"

#: Every command; each has a primary config of its name.
COMMANDS = (
    "train",
    "eval",
    "preprocess",
    "merge",
    "generate",
    "serve",
    "demo",
    "compare",
    "build_tasks",
    "plan",
    "replay",
    "sweep",
)

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}

#: Four questions, so that a benchmark is there and takes no time.
FOUR_QUESTIONS = (
    "benchmark=[theory]",
    "benchmark.theory.per_topic=1",
    "benchmark.theory.topics=[interval_name,count_notes,relative_key,wrong_bar]",
)

#: A training job of seconds: random tiny model, few questions, one logger. Data and directories come from the test.
TINY = ("model=tiny", "module=pretrain", "lora.r=2", "lora.modules_to_save=null", "logger=[csv]", *FOUR_QUESTIONS)


@dataclass(frozen=True)
class Outcome:
    """What a command left for its user to see."""

    code: int
    stdout: str
    stderr: str


def call(command, *arguments, cwd):
    """Run a command in this process, from the directory `cwd`; what it changes in the process is put back."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _sandbox(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = [f"{command}.py", *map(str, arguments)]
        try:
            importlib.import_module(f"musician.{command}").main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            code = 1
            traceback.print_exc()
    return Outcome(code, out.getvalue(), err.getvalue())


def spawn(command, *arguments, cwd, env=None, timeout=300, fresh=False):
    """Run a command as a user does: `python -m musician.COMMAND ...`; by a fresh interpreter only where it matters."""
    python = sys.executable if fresh else forked_python()
    return spawn_python("-m", f"musician.{command}", *arguments, cwd=cwd, env=env, timeout=timeout, python=python)


def spawn_python(*arguments, cwd, env=None, timeout=300, python=sys.executable):
    """Run the tests' interpreter, without network."""
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=cwd,
        env={**_clean_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_refused(outcome, *words):
    """The command ended with status 1 and one line for its user, which holds all of `words`, before it did anything."""
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert_stopped(outcome, *words)


def assert_stopped(outcome, *words):
    """The command ended with status 1 and, below its progress, one error of one line which holds all of `words`."""
    lines = outcome.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.stderr, outcome.stderr
    assert errors == lines[-1:], outcome.stderr
    for word in words:
        assert str(word) in errors[0], f"{word!r} is not in: {errors[0]}"


def assert_ran(outcome):
    """The command ended well."""
    assert outcome.code == 0, outcome.stderr


@cache
def composed(command, *overrides):
    """The config that a command would get, unresolved; nothing is imported for it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(command, list(overrides))


def plain(config, resolve=False):
    """A config as dictionaries and lists; what only a running job knows is a fixed word."""
    if resolve:
        config = OmegaConf.create(config)
        config.output_dir = "OUTPUT"
    return OmegaConf.to_container(config, resolve=resolve)


def options(group):
    """Names of the options of a group; a leading underscore marks what options share."""
    return sorted(file.stem for file in (CONF / group).glob("[!_]*.yaml"))


def one_job(arguments):
    """The first job of a command line, without what only shows it: `-m lora.r=2,4 --cfg job` becomes `lora.r=2`."""
    kept = [word for word in arguments if word not in ("-m", "--multirun", "--cfg", "job", "--resolve", "...")]
    if len(set(arguments) & {"-m", "--multirun"}):
        kept = [word if "[" in word else word.partition(",")[0] for word in kept]
    return kept


def write_jsonl(path, rows):
    """Write rows and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tune(index):
    """A little tune, each index of a family of its own."""
    steps = "CDEFGABcdefgab"
    bars = "|".join(
        "".join(steps[(index * 5 + bar * (index + 3) + beat * beat) % 14] for beat in range(6)) for bar in range(4)
    )
    return f"X:{index}\nT:Tune {index}\nM:6/8\nL:1/8\nK:G\n{bars}|\n"


def tunes(count):
    """Rows of documents."""
    return [{"text": tune(index)} for index in range(1, count + 1)]


def _clean_environment():
    kept = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "LOCAL_RANK")}
    return {**kept, **OFFLINE}


@contextlib.contextmanager
def _sandbox(cwd):
    environment, folder, argv = dict(os.environ), Path.cwd(), sys.argv
    root = logging.getLogger()
    handlers, level, singletons = root.handlers[:], root.level, Singleton.get_state()
    GlobalHydra.instance().clear()
    version.setbase("1.3")  # a command sets it once, when it is imported
    os.environ.pop("HYDRA_FULL_ERROR", None)
    os.chdir(cwd)
    try:
        with warnings.catch_warnings(), _offline_hub():
            yield
    finally:
        os.chdir(folder)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        for handler in set(root.handlers) - set(handlers):
            with contextlib.suppress(OSError):  # a full disk, which logging passes over when a process ends, too
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        Singleton.set_state(singletons)


@contextlib.contextmanager
def _offline_hub():
    """The hub's client reads its switches once, when it is imported."""
    import datasets.config
    from huggingface_hub import constants
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
