"""Errors of a command as its user sees them: one line on stderr and exit status 1."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from musician.cli.keys import CONF_DIR
from musician.cli.processes import is_child_rank
from musician.runtime.errors import UserError, nearest
from musician.training.runs.record import is_locked


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print a user's mistake in one line and exit with status 1; with `HYDRA_FULL_ERROR=1` let it through."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        of_system = isinstance(error, OSError) and not isinstance(error, HydraException)  # a missing option is both
        full = of_system and getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or (of_system and not full):
            raise
        message = f"the disk is full ({_output() or 'output'}: {error}); free some space and run again"
        print(f"error: {message if full else one_line(error)}", file=sys.stderr)
        discard_empty_output()
        raise SystemExit(1) from None


def one_line(error: BaseException) -> str:
    """Return the message of an error, with the nearest right key or option where one is missing.

    An error raised while Hydra instantiates a node arrives wrapped; the user's error inside is the message.
    """
    inner = error
    while inner.__cause__ is not None and not isinstance(inner, UserError):
        inner = inner.__cause__
    if isinstance(inner, UserError):
        return str(inner)
    if isinstance(inner, MissingMandatoryValue):
        return f"config: {inner.full_key or inner.key} must be given"
    text = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
    parent: Any = getattr(inner, "parent_node", None)
    if isinstance(inner, OmegaConfBaseException) and OmegaConf.is_dict(parent):
        key = str(inner.key)
        names = sorted(str(name) for name in parent if not str(name).startswith("_"))
        return f"config: there is no key '{inner.full_key or key}'{nearest(key, names)}; it has {names}"
    if found := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        group, option = found.groups()
        options = sorted(file.stem for file in (CONF_DIR / group).glob("[!_]*.yaml"))
        return f"config: {group} has no option '{option}'{nearest(option, options)}; it has {options}"
    return text


def discard_empty_output() -> None:
    """Remove the output directory that Hydra made for a job that ended before it wrote anything.

    One that another job has locked stays: that job may not have written anything yet either.
    """
    output = _output()
    if output is None or is_child_rank() or output == Path.cwd() or not output.is_dir() or is_locked(output):
        return
    if {entry.name for entry in output.iterdir()} <= {".hydra", f"{HydraConfig.get().job.name}.log", ".lock"}:
        shutil.rmtree(output)


def _output() -> Path | None:
    if not HydraConfig.initialized() or OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return None
    return Path(HydraConfig.get().runtime.output_dir)
