"""The plan of packed rows, made once and mapped into memory ever after."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from musician.data.packing import Rows, pack
from musician.data.store.prepared import PreparedSplit
from musician.runtime.atomic import write_directory


def planned_rows(split: PreparedSplit, capacity: int) -> Rows:
    """How the documents of a split are packed in rows of `capacity` tokens.

    Read from beside the split where it was planned before; else planned, and kept there if the folder can be written.
    """
    folder = _folder(split.directory, capacity)
    if not folder.is_dir():
        rows = plan(split.lengths, split.supervised_counts(), capacity)
        with suppress(OSError):  # a read-only folder: the same plan again next time
            save_plan(rows, split.directory, capacity)
        return rows
    return Rows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("documents", "offsets", "supervised")))


def plan(lengths: np.ndarray, supervised: np.ndarray, capacity: int) -> Rows:
    """Pack documents and add up what is supervised in each row.

    Args:
        lengths: tokens of each document.
        supervised: supervised tokens of each document.
        capacity: tokens of a row.
    """
    rows = pack(lengths, capacity)
    return Rows(rows.documents, rows.offsets, rows.sums(supervised))


def save_plan(rows: Rows, directory: Path, capacity: int) -> None:
    """Keep a plan beside the split it is for.

    Args:
        rows: what `plan` made.
        directory: folder of the split.
        capacity: tokens of a row.
    """
    assert rows.supervised is not None
    arrays = {"documents": rows.documents, "offsets": rows.offsets, "supervised": rows.supervised}

    def fill(folder: Path) -> None:
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values.astype(np.uint32))

    write_directory(_folder(directory, capacity), fill)


def _folder(directory: Path, capacity: int) -> Path:
    return directory / f"rows-{capacity}"
