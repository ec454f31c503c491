"""What a run says when its machine fails it: another process of the job is gone, or the place it writes to."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from musician.runtime.errors import UserError

#: How gloo, NCCL and torch's store speak of a process that is gone; torch has classes of errors for some of these only.
_LOST = re.compile(
    r"connection (was )?(likely )?(closed|reset|refused)|timed out|broken pipe|socket timeout"
    r"|nccl (communicator|timeout)|no route to host|network is unreachable",
    re.IGNORECASE,
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an exchange with the other processes failed because one of them does not answer."""
    kinds = (torch.distributed.DistNetworkError, torch.distributed.DistBackendError)
    if isinstance(error, kinds):
        return True
    return torch.distributed.is_initialized() and isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


@contextmanager
def failures_in_one_line(run: Path) -> Iterator[None]:
    """Say in one line that another process is gone, or that the run directory cannot be written any more.

    Args:
        run: the run directory.

    Raises:
        UserError: so it is.
    """
    try:
        yield
    except Exception as error:
        if is_lost_peer(error):
            reason = re.sub(r"^\[[^]]*\] *", "", str(error).strip().splitlines()[0])  # a line of gloo's source
            raise UserError(
                f"another process of this job does not answer any more ({reason}); see its output and its node; "
                f"{saved_state(run)}: start all processes again with ckpt_path=auto and hydra.run.dir={run}"
            ) from error
        if isinstance(error, OSError) and _is_of(error, run):
            raise UserError(describe_loss(run, error)) from error
        raise


def describe_loss(run: Path, error: Exception) -> str:
    """Why a run directory cannot be written, and what is left in it."""
    if not (run / "run.json").is_file():
        return (
            f"run directory {run}: was removed or moved while training ({error}); put it back and continue with "
            "ckpt_path=auto, or begin again"
        )
    return (
        f"run directory {run}: cannot be written any more ({error}); {saved_state(run)}: free the disk, "
        f"then continue with ckpt_path=auto hydra.run.dir={run}"
    )


def saved_state(run: Path) -> str:
    """Which checkpoint is there to continue from, in words."""
    last = run / "checkpoints" / "last"
    return f"checkpoint {last.resolve().name} is whole" if last.is_symlink() else "no checkpoint was written yet"


def _is_of(error: OSError, run: Path) -> bool:
    return error.errno in _FULL or (error.filename is not None and Path(error.filename).is_relative_to(run))
