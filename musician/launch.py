"""What every door needs: where conf/ lives, errors in one line, keys that exist, ranks that re-run one job."""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from musician.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent

#: In a checkout conf/ sits beside the package; in a wheel it is inside it.
CONF_DIR = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())

_CHATTY_LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "pytorch_lightning.strategies.deepspeed",
    "matplotlib",
    "compilers",
)

#: Set for the processes of a job; only its first one claims the run directory and speaks.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


def door(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: `conf/CONFIG_NAME.yaml` composed with what the command line says.

    A user's mistake ends in one line on stderr and exit status 1; `HYDRA_FULL_ERROR=1` shows the traceback as well.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"

        @wraps(main)
        def job(cfg: DictConfig) -> Any:
            quieten_libraries()
            check_keys(cfg, config_name)
            return main(cfg)

        # Caught inside as well: Hydra adds a line of its own to what leaves a job.
        application = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(
            job if wants_traceback else _in_one_line(job)
        )

        @wraps(main)
        def run() -> None:
            sys.argv[1:] = [spell_override(argument, config_name) for argument in sys.argv[1:]]
            os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints its own version and exits
            (application if wants_traceback else _in_one_line(application))()

        return run

    return decorate


def discard_empty_output() -> None:
    """Remove the output directory that Hydra made for a job that ended before it wrote anything."""
    if not HydraConfig.initialized() or is_child_rank():
        return
    job = HydraConfig.get()
    output = Path(job.runtime.output_dir)
    own = {job.output_subdir, f"{job.job.name}.log", ".lock"}
    if job.output_subdir and output.is_dir() and {entry.name for entry in output.iterdir()} <= own:
        shutil.rmtree(output)


def quieten_libraries() -> None:
    """Silence notices of libraries that say nothing about this job; their warnings and errors stay."""
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*is_gradient_checkpointing.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*all_gather_into_tensor.*",
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

    `lora=null` chooses the option `none`. For the doors that take a finished model, `model=PATH` sets `model.path`:
    `model` is also the group of models to train, and Hydra would look for an option of that name.
    """
    key, equals, value = argument.partition("=")
    if value == "null" and (CONF_DIR / key / "none.yaml").is_file():
        return f"{key}=none"
    primary = OmegaConf.load(CONF_DIR / f"{config_name}.yaml")
    takes_path = OmegaConf.is_dict(primary) and "model" in primary
    if not takes_path or key != "model" or not equals:
        return argument
    quoted = value if value[:1] in ("'", '"', "$") else "'" + value.replace("'", "\\'") + "'"
    return f"model.path={quoted}"


def _in_one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            discard_empty_output()
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return run


def one_line(error: BaseException) -> str:
    """The message of an error, with the nearest right key or option where one is missing.

    An error raised while Hydra instantiates a node arrives wrapped; the user's error inside speaks.
    """
    inner = error
    while inner.__cause__ is not None and not isinstance(inner, UserError):
        inner = inner.__cause__
    if isinstance(inner, UserError):
        return str(inner)
    text = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
    parent: Any = getattr(inner, "parent_node", None)
    if isinstance(inner, OmegaConfBaseException) and OmegaConf.is_dict(parent):
        key = str(inner.key)
        path = inner.full_key or key
        names = sorted(str(name) for name in parent if not str(name).startswith("_"))
        return f"config: there is no key '{path}'{nearest(key, names)}; it has {names}"
    if "Could not find '" in text:
        group, _, option = text.split("Could not find '")[1].split("'")[0].rpartition("/")
        options = sorted(file.stem for file in (CONF_DIR / group).glob("[!_]*.yaml"))
        if options:
            return f"config: {group} has no option '{option}'{nearest(option, options)}; it has {options}"
    return text


def check_keys(cfg: DictConfig, primary: str) -> None:
    """Refuse a key that nothing would read, wherever it was written, experiment files included.

    A node with a `_target_` may have the target's arguments; any other node what its options in conf/ have.

    Raises:
        UserError: naming the key and the nearest right one.
    """
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    root = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{primary}.yaml"), resolve=False)
    assert isinstance(root, dict)
    groups = {str(name) for item in root.pop("defaults", []) if isinstance(item, dict) for name in item}
    allowed = {str(name) for name in root} | groups
    for key, value in plain.items():
        if key not in allowed:
            raise UserError(f"config: there is no key '{key!s}'{nearest(str(key), allowed)}; it has {sorted(allowed)}")
        schemas = _options(str(key)) if key in groups else [root[key]]
        if isinstance(value, Mapping):
            _check_node(value, str(key), schemas)


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
        module: the door, `musician.train`.
    """
    from pytorch_lightning.strategies.launchers import subprocess_script

    subprocess_script._hydra_subprocess_cmd = lambda local_rank: (
        rank_command(module, local_rank),
        HydraConfig.get().runtime.cwd,
    )


def rank_command(module: str, local_rank: int) -> list[str]:
    """The command that runs another rank of the current Hydra job, in the same output directory."""
    job = HydraConfig.get()
    folders = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    return [
        *(sys.executable, "-m", module, "--config-name", str(job.job.config_name)),
        *(argument for folder in folders for argument in ("--config-dir", folder)),
        *job.overrides.task,
        f'hydra.run.dir="{job.runtime.output_dir}"',
        f"hydra.job.name={job.job.name}_rank{local_rank}",
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
    ]


def is_child_rank() -> bool:
    """Whether this process is not the first of its job, whoever started it: Lightning, torchrun or SLURM."""
    return any(int(os.environ.get(name) or 0) > 0 for name in _RANK_VARIABLES)


def _check_node(node: Mapping[Any, Any], path: str, schemas: list[Any]) -> None:
    schemas = [schema for schema in schemas if isinstance(schema, Mapping)]
    known = {str(key) for schema in schemas for key in schema}
    target = node.get("_target_")
    if target is not None:
        known |= _parameters(str(target), path)
        known |= {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
    for key, value in node.items():
        if known and str(key) not in known:
            names = sorted(name for name in known if not name.startswith("_"))
            raise UserError(f"config: there is no key '{path}.{key}'{nearest(str(key), names)}; it has {names}")
        if isinstance(value, Mapping):
            _check_node(value, f"{path}.{key}", [schema.get(key) for schema in schemas])


def _parameters(target: str, path: str) -> set[str]:
    """Names a target accepts; `**kwargs` counts for nothing, so that a typo cannot hide in it."""
    try:
        signature = inspect.signature(get_object(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"config: {path}._target_={target} cannot be imported ({error})") from error
    return {name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}


def _options(group: str) -> list[Any]:
    """The content of every option of a group; options that go to `group.NAME` are nested so."""
    return list(_read_options(CONF_DIR / group, group))


def _read_options(folder: Path, group: str) -> Iterator[Any]:
    for file in sorted(folder.glob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if isinstance(content, dict):
            content.pop("defaults", None)
        header = file.read_text().lstrip()
        package = header.split("@package", 1)[1].split()[0] if header.startswith("# @package") else group
        for name in reversed(package.split(".")[1:]):
            content = {name: content}
        yield content
