"""The plan of packed rows, made once and mapped into memory ever after."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from musician.data.packing import Rows, pack
from musician.data.store.split import PreparedSplit
from musician.runtime.atomic import write_directory


def planned_rows(split: PreparedSplit, capacity: int) -> Rows:
    """Pack the documents of a split in rows of `capacity` tokens, and add up what is supervised in each.

    Read from beside the split where it was planned before; else planned, and kept there if the folder can be written.
    """
    folder = split.directory / f"rows-{capacity}"
    if not folder.is_dir():
        rows = pack(split.lengths, capacity)
        rows = Rows(rows.documents, rows.offsets, rows.sums(split.supervised_counts()))
        with suppress(OSError):  # a read-only folder: the same plan again next time
            write_directory(folder, lambda partial: _save(rows, partial))
        return rows
    return Rows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS))


_ARRAYS = ("documents", "offsets", "supervised")


def _save(rows: Rows, folder: Path) -> None:
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(rows, name).astype(np.uint32))
