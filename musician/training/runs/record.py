"""The run directory: taken by one job at a time, and holding a record of everything that made the run."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

_PACKAGES = (
    "torch",
    "pytorch-lightning",
    "transformers",
    "peft",
    "deepspeed",
    "datasets",
    "hydra-core",
    "numpy",
    "musician",
)


class RunDirectory:
    """A directory that one job owns while it runs.

    Args:
        path: the directory; made if absent.

    Raises:
        UserError: another job runs in it, it holds a finished run, or it cannot be written.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        self._lock = self._claim()
        if (self.path / "run.json").exists() and not resume:
            self.release()
            raise UserError(
                f"run directory {self.path}: already holds a run; choose another hydra.run.dir, "
                f"or continue it with ckpt_path={self.path}"
            )

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        """Let another job have the directory."""
        self.release()

    def release(self) -> None:
        """Let another job have the directory."""
        self._lock.close()

    def record(self, composition: Mapping[str, str], **facts: Any) -> dict[str, Any]:
        """Write `.hydra/`, and `run.json`: the given facts, the command, git state, versions and machine.

        Args:
            composition: content of the files of `.hydra/`, by name.
            facts: of the job.
        """
        record = {
            **facts,
            "command": sys.argv,
            "git": git_state(),
            "versions": versions(_PACKAGES),
            "python": platform.python_version(),
            "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "gpus": _gpus()},
        }
        try:
            (self.path / ".hydra").mkdir(exist_ok=True)
            for name, text in composition.items():
                write_text(self.path / ".hydra" / name, text)
            write_text(self.path / "run.json", json.dumps(record, indent=2, sort_keys=True, default=str) + "\n")
        except OSError as error:
            raise UserError(f"run directory {self.path}: cannot be written ({error.strerror})") from error
        return record

    def _claim(self) -> TextIO:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(
                f"run directory {self.path}: cannot be written ({error.strerror}); set hydra.run.dir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UserError(
                f"run directory {self.path}: another job is running in it; choose another hydra.run.dir"
            ) from error
        return lock


def is_locked(directory: Path) -> bool:
    """Whether a job runs in a directory."""
    file = directory / ".lock"
    if not file.is_file():
        return False
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def git_state(root: str | Path | None = None) -> Mapping[str, Any]:
    """Commit and whether tracked files differ from it; empty outside a repository."""
    where = Path(root) if root else Path(__file__).resolve().parents[3]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
