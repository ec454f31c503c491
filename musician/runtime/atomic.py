"""Files and directories that are whole or absent: written under another name, flushed to disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file; one of that name is replaced in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    _flush(partial)
    os.replace(partial, path)


def write_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory under another name, then give it its own.

    Args:
        target: the directory to make; one of that name is replaced.
        fill: writes into the directory it is given.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        publish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish(partial: Path, target: Path) -> None:
    """Flush a filled directory to disk and give it its name; a directory that has it goes only afterwards."""
    for file in partial.rglob("*"):
        if file.is_file():
            _flush(file)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def standing(target: Path) -> Path:
    """Where the content of a published directory is: under its name, or aside if `publish` was killed replacing it."""
    old = target.with_name(f".{target.name}.old")
    return old if old.is_dir() and not target.exists() else target


def publish_first(partial: Path, target: Path, mark: str) -> None:
    """Give a filled directory its name unless another process was first, whose content is the same.

    Args:
        partial: the filled directory.
        target: its name.
        mark: a file that a whole directory holds.
    """
    try:
        partial.rename(target)
    except OSError:
        if not (target / mark).is_file():
            raise


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to its sibling `target`, in one step."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    os.replace(fresh, link)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
