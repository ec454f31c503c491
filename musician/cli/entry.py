"""The entry point of every command: composes conf/, checks the keys, runs the job, and ends errors in one line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra._internal import utils as hydra_utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.arguments import name_words, spell_override
from musician.cli.errors import errors_in_one_line
from musician.cli.keys import CONF_DIR, check_keys
from musician.cli.processes import in_sweep
from musician.runtime.errors import UserError

_CHATTY_LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "pytorch_lightning.strategies.deepspeed",
    "matplotlib",
    "compilers",
)


def command(config_name: str, words: Sequence[str] = ()) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: `conf/CONFIG_NAME.yaml` composed with the overrides of the command line.

    A user's mistake ends in one line on stderr and exit status 1; `HYDRA_FULL_ERROR=1` shows the traceback instead.

    Args:
        config_name: the primary config.
        words: keys that plain words of the command line are values of, in order.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @wraps(main)
        def run() -> None:
            began = False

            @wraps(main)
            def job(cfg: DictConfig) -> Any:
                nonlocal began
                began = True
                quieten_libraries()
                with errors_in_one_line():  # a wrong key ends a sweep too: all its jobs have it
                    check_keys(cfg, config_name)
                # After an error a sweep goes on with its other jobs, and raises the error when it ends.
                with nullcontext() if in_sweep() else errors_in_one_line():
                    return main(cfg)

            if words:
                sys.argv[1:] = name_words(sys.argv[1:], words, config_name)
            sys.argv[1:] = [word for argument in sys.argv[1:] for word in spell_override(argument, config_name)]
            _adapt_hydra()
            compose = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)
            with errors_in_one_line():
                try:
                    compose(job)()
                except (OSError, ValueError) as error:
                    if began or isinstance(error, HydraException):
                        raise
                    raise UserError(_why_hydra_refuses(error)) from error

        return run

    return decorate


def _adapt_hydra() -> None:
    """Let Hydra's errors through, which it would print itself, and hide options that only others build upon."""
    hydra_utils.run_and_report = lambda func: func()
    if not hasattr(ConfigLoaderImpl.get_group_options, "__wrapped__"):
        list_options = ConfigLoaderImpl.get_group_options

        @wraps(list_options)
        def public_options(*arguments: Any, **keywords: Any) -> list[str]:
            return [option for option in list_options(*arguments, **keywords) if not option.startswith("_")]

        ConfigLoaderImpl.get_group_options = public_options  # type: ignore[method-assign]


def _why_hydra_refuses(error: OSError | ValueError) -> str:
    where = getattr(error, "filename", None)
    return f"output directory {where}: cannot be written ({error}); set hydra.run.dir" if where else str(error)


def quieten_libraries() -> None:
    """Silence notices of libraries that are not about this job; their warnings and errors stay."""
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # peft imports bitsandbytes where it is installed; it then warns of a kernel that it would fetch from a hub.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    for message in (
        r".*is_gradient_checkpointing.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*all_gather_into_tensor.*",
        r".*reduce_scatter_tensor.*",
        r"When saving the DeepSpeed Stage 3 checkpoint.*",  # the adapter beside it is complete
    ):
        warnings.filterwarnings("ignore", message=message)
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found no other
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")


def build_selected(nodes: Mapping[Any, Any]) -> dict[str, Any]:
    """Instantiate the chosen options of a group of which several can be chosen, such as `benchmark`.

    An experiment may set keys of an option that the command line then leaves out; what remains of it has no `_target_`.
    """
    return {str(name): instantiate(node) for name, node in nodes.items() if "_target_" in node}
