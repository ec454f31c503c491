"""The plan of packed rows, made once and mapped into memory ever after."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from musician.atomic import write_directory
from musician.data.packing import Rows, pack
from musician.data.prepared import PreparedSplit


def planned_rows(split: PreparedSplit, capacity: int) -> Rows:
    """How the documents of a split are packed in rows of `capacity` tokens.

    Read from beside the split where it was planned before; else planned, and kept there if the folder can be written.
    """
    folder = _folder(split.directory, capacity)
    if not folder.is_dir():
        rows = pack(split.lengths, capacity)
        with suppress(OSError):  # a read-only folder: the same plan again next time
            save_plan(rows, split.directory, capacity)
        return rows
    return Rows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("documents", "offsets")))


def save_plan(rows: Rows, directory: Path, capacity: int) -> None:
    """Keep a plan beside the split it is for.

    Args:
        rows: the plan.
        directory: folder of the split.
        capacity: tokens of a row.
    """

    def fill(folder: Path) -> None:
        np.save(folder / "documents.npy", rows.documents.astype(np.uint32))
        np.save(folder / "offsets.npy", rows.offsets.astype(np.uint32))

    write_directory(_folder(directory, capacity), fill)


def _folder(directory: Path, capacity: int) -> Path:
    return directory / f"rows-{capacity}"
