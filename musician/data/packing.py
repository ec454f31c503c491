"""Best-fit-decreasing packing of documents into rows, planned on lengths alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Rows:
    """Which documents are in which row.

    Attributes:
        documents: `[num_documents]` document indices, row by row.
        offsets: `[num_rows + 1]`; row i holds `documents[offsets[i]:offsets[i + 1]]`.
        supervised: supervised tokens of each row where they were added up beforehand: `[num_rows]`.
    """

    documents: np.ndarray
    offsets: np.ndarray
    supervised: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.documents[self.offsets[row] : self.offsets[row + 1]]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum a per-document value over each row: `[num_rows]`."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(values[self.documents].astype(np.int64), self.offsets[:-1])


def one_document_a_row(num_documents: int) -> Rows:
    """The plan without packing."""
    return Rows(np.arange(num_documents, dtype=np.uint32), np.arange(num_documents + 1, dtype=np.uint32))


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> Rows:
    """Pack documents into rows of at most `capacity` tokens, longest first, each where it leaves the least room.

    Runs of equal length are placed together into all rows with equal free space, so the work depends on the number of
    different lengths, not of documents; the rows are those of textbook best-fit decreasing. Deterministic.

    Args:
        lengths: tokens of each document, each in 1..capacity.
        capacity: tokens of a row.

    Raises:
        ValueError: a length outside 1..capacity; documents are split before, never cut here.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and (lengths.min() < 1 or lengths.max() > capacity):
        raise ValueError(f"document lengths {lengths.min()}..{lengths.max()} do not fit rows of 1..{capacity} tokens")
    if not len(lengths):
        return Rows(np.zeros(0, np.int64), np.zeros(1, np.int64))
    row_of, num_rows = _assign(lengths, capacity)
    order = np.lexsort((np.arange(len(lengths)), row_of))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=num_rows))]).astype(np.int64)
    return Rows(order, offsets)


def _assign(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Row index of each document, and the number of rows."""
    row_of = np.zeros(len(lengths), dtype=np.int64)
    free: dict[int, list[np.ndarray]] = {}
    num_rows = 0
    by_length = np.argsort(-lengths, kind="stable")
    distinct, starts = np.unique(-lengths[by_length], return_index=True)
    for length, group in zip(-distinct, np.split(by_length, starts[1:]), strict=True):
        while len(group):
            space = min((space for space in free if space >= length), default=None)
            if space is None:
                space = capacity
                rows = np.arange(num_rows, num_rows + -(-len(group) // (capacity // length)))
                num_rows += len(rows)
            else:
                rows = np.concatenate(free.pop(space))
            group = _fill(rows, space, int(length), group, row_of, free)
    return row_of, num_rows


def _fill(
    rows: np.ndarray, space: int, length: int, group: np.ndarray, row_of: np.ndarray, free: dict[int, list[np.ndarray]]
) -> np.ndarray:
    """Put documents of one length into rows of one free space, each row to the brim; return the documents left over."""
    each = space // length
    placed = min(len(group), len(rows) * each)
    row_of[group[:placed]] = np.repeat(rows, each)[:placed]
    full, partial = divmod(placed, each)
    _release(free, space - each * length, rows[:full])
    if partial:
        _release(free, space - partial * length, rows[full : full + 1])
    _release(free, space, rows[full + bool(partial) :])
    return group[placed:]


def _release(free: dict[int, list[np.ndarray]], space: int, rows: np.ndarray) -> None:
    if space and len(rows):
        free.setdefault(space, []).append(rows)
