"""What every command needs: where conf/ lives, errors in one line, keys that exist, ranks that re-run one job."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from musician.cli.keys import CONF_DIR, check_keys, one_line
from musician.runtime.errors import UserError
from musician.training.runs.record import is_locked

_CHATTY_LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "pytorch_lightning.strategies.deepspeed",
    "matplotlib",
    "compilers",
)

#: Set for the processes of a job; only its first one claims the run directory and speaks.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


#: Set while a command runs, for the processes it starts.
_INSIDE = "MUSICIAN_INSIDE_COMMAND"


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: `conf/CONFIG_NAME.yaml` composed with what the command line says.

    A user's mistake ends in one line on stderr and exit status 1; `HYDRA_FULL_ERROR=1` shows the traceback as well.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @wraps(main)
        def job(cfg: DictConfig) -> Any:
            quieten_libraries()
            # A slip in a key ends a sweep too: all its jobs have it.
            _in_one_line(check_keys, outside=True)(cfg, config_name)
            return main(cfg)

        @wraps(main)
        def run() -> None:
            sys.argv[1:] = [spell_override(argument, config_name) for argument in sys.argv[1:]]
            wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and _INSIDE not in os.environ
            compose = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)
            if wants_traceback:
                compose(job)()
                return
            before = dict(os.environ)
            # Otherwise Hydra prints its own version of an error and exits.
            os.environ["HYDRA_FULL_ERROR"] = os.environ[_INSIDE] = "1"
            try:
                # Caught inside as well: Hydra adds a line of its own to what leaves a job.
                _in_one_line(compose(_in_one_line(job)), outside=True)()
            finally:
                for name in ("HYDRA_FULL_ERROR", _INSIDE):
                    os.environ.pop(name)
                    os.environ.update({name: before[name]} if name in before else {})

        return run

    return decorate


def _in_one_line(function: Callable[..., Any], outside: bool = False) -> Callable[..., Any]:
    """Turn a user's mistake into one line and exit status 1.

    Args:
        function: what to run.
        outside: it is Hydra around a job, whose failures to write the output directory, and refusals, count as well.
    """
    mistakes: tuple[type[Exception], ...] = (UserError, HydraException, OmegaConfBaseException)

    @wraps(function)
    def run(*arguments: Any) -> Any:
        if not outside and in_sweep():
            return function(*arguments)  # the sweep goes on with its other jobs, and tells the error when it ends
        try:
            return function(*arguments)
        except mistakes as error:
            _refuse(one_line(error))
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                place = HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else "output"
                _refuse(f"the disk is full ({place}: {error}); free some space and run again")
            if not outside or _job_began(error):
                raise
            where = getattr(error, "filename", None)
            _refuse(
                f"output directory {where}: cannot be written ({error}); set hydra.run.dir" if where else str(error)
            )
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return run


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    discard_empty_output()
    raise SystemExit(1) from None


def _job_began(error: BaseException) -> bool:
    """Whether an error came out of the job itself, not out of what Hydra does around it."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == "job" and frame.tb_frame.f_globals.get("__name__") == __name__:
            return True
        frame = frame.tb_next
    return False


def discard_empty_output() -> None:
    """Remove the output directory that Hydra made for a job that ended before it wrote anything.

    One that another job holds stays: that job may not have written anything yet either.
    """
    if not HydraConfig.initialized() or is_child_rank():
        return
    job = HydraConfig.get()
    if OmegaConf.is_missing(job.runtime, "output_dir"):
        return
    output = Path(job.runtime.output_dir)
    own = {".hydra", f"{job.job.name}.log", ".lock"}
    if output == Path(job.runtime.cwd) or not output.is_dir() or is_locked(output):
        return
    if {entry.name for entry in output.iterdir()} <= own:
        shutil.rmtree(output)


def quieten_libraries() -> None:
    """Silence notices of libraries that say nothing about this job; their warnings and errors stay."""
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # peft imports bitsandbytes where it is installed; it then warns of a kernel that it would fetch from a hub.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    for message in (
        r".*is_gradient_checkpointing.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*all_gather_into_tensor.*",
        r".*reduce_scatter_tensor.*",
        r"When saving the DeepSpeed Stage 3 checkpoint.*",  # the adapter beside it is whole
    ):
        warnings.filterwarnings("ignore", message=message)
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found no other
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")


def spell_override(argument: str, config_name: str) -> str:
    """Turn what users naturally write into what Hydra takes.

    `lora=null` chooses the option `none`. For the commands that take a finished model, `model=PATH` sets `model.path`:
    `model` is also the group of models to train, and Hydra would look for an option of that name.
    """
    key, equals, value = argument.partition("=")
    if value == "null" and (CONF_DIR / key / "none.yaml").is_file():
        return f"{key}=none"
    if key != "model" or not equals or not _takes_path(config_name):
        return argument
    quoted = value if value[:1] in ("'", '"', "$") else quote(value)
    return f"model.path={quoted}"


def _takes_path(config_name: str) -> bool:
    """Whether a command's `model` is the path of a finished model, not a group."""
    primary = OmegaConf.load(CONF_DIR / f"{config_name}.yaml")
    return OmegaConf.is_dict(primary) and "model" in primary


def quote(value: str) -> str:
    """A value as a quoted string of Hydra's grammar: a backslash counts only before a quote or the end."""
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value) + "'"


def build_selected(nodes: Mapping[Any, Any]) -> dict[str, Any]:
    """Instantiate the chosen options of a group that takes several, such as `benchmark`.

    An experiment may set keys of an option that the command line then leaves out; what remains of it has no `_target_`.
    """
    return {str(name): instantiate(node) for name, node in nodes.items() if "_target_" in node}


def pin_ranks(module: str) -> None:
    """Make Lightning start the other ranks of this job with this job's own command.

    Stock Lightning runs argv again, which in a multirun holds the whole grid, so each child would run the whole sweep;
    and inside a launcher such as submitit argv is not even ours.

    Args:
        module: the command, `musician.train`.
    """
    from pytorch_lightning.strategies.launchers import subprocess_script

    subprocess_script._hydra_subprocess_cmd = lambda local_rank: (
        rank_command(module, local_rank),
        HydraConfig.get().runtime.cwd,
    )


def rank_command(module: str, local_rank: int) -> list[str]:
    """The command that runs another rank of the current Hydra job, in the same output directory."""
    return job_command(module, f"hydra.job.name={HydraConfig.get().job.name}_rank{local_rank}")


def job_command(module: str, *more: str) -> list[str]:
    """The command that runs the current Hydra job, and never the sweep it is part of, in the same output directory.

    Args:
        module: the command, `musician.train`.
        more: overrides to add.
    """
    job = HydraConfig.get()
    folders = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    return [
        *(sys.executable, "-m", module, "--config-name", str(job.job.config_name)),
        *(argument for folder in folders for argument in ("--config-dir", folder)),
        *job.overrides.task,
        f'hydra.run.dir="{job.runtime.output_dir}"',
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
        *more,
    ]


def in_sweep() -> bool:
    """Whether this process composes the jobs of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_child_rank() -> bool:
    """Whether this process is not the first of its job, whoever started it: Lightning, torchrun or SLURM."""
    return any(int(os.environ.get(name) or 0) > 0 for name in _RANK_VARIABLES)
