"""Which rows are dropped for their quality, judged on the sketches of all rows; the first of several alike stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musician.data.quality.filters import Quality
from musician.data.quality.sketch import BANDS

#: Pairs whose MinHash values are compared at once.
PAIRS = 1 << 16


def judge(sketches: Sequence[Path], quality: Quality) -> np.ndarray:
    """Find the rows to drop: 0, or one more than the place of the reason in `quality.reasons()`: `[num_rows]`, uint8.

    Memory: some 60 bytes a row. A row is compared with those before it that stay; rows that are unfit for training, or
    hold a question, are copies of nothing.

    Args:
        sketches: directories of `musician.data.quality.sketch.Sketcher`, in the order of the rows.
        quality: what is asked.
    """
    verdicts = _joined(sketches, "question")
    sound = _joined(sketches, "sound")
    first = len(quality.benchmarks()) + 1
    for place, (asked, name) in enumerate([(quality.exact, "exact"), (quality.melody, "melody")]):
        if asked:
            names = _joined(sketches, name)
            verdicts[_repeats(names, sound & (verdicts == 0) & (names != 0))] = first + place
    if quality.near_text:
        verdicts[_near(sketches, sound & (verdicts == 0), quality.near_text)] = first + 2
    return verdicts


def _joined(sketches: Sequence[Path], name: str) -> np.ndarray:
    return np.concatenate([np.load(sketch / f"{name}.npy") for sketch in sketches])


def _repeats(names: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Rows among the given ones whose name an earlier one has."""
    order, same = _sorted(names, among)
    return order[1:][same]


def _sorted(names: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The given rows ordered by name, then place; and which have the name of the one before."""
    rows = np.flatnonzero(among)
    order = rows[np.argsort(names[rows], kind="stable")]
    return order, names[order[1:]] == names[order[:-1]]


def _near(sketches: Sequence[Path], among: np.ndarray, least: float) -> np.ndarray:
    """Rows whose MinHash values are like those of an earlier row, directly or through others."""
    values = _Rows([np.load(sketch / "minhash.npy", mmap_mode="r") for sketch in sketches])
    first = np.arange(len(among))
    for band in range(BANDS):
        names = np.concatenate([np.load(sketch / "bands.npy", mmap_mode="r")[band] for sketch in sketches])
        pairs = _neighbours(names, among)
        for start in range(0, len(pairs), PAIRS):
            part = pairs[start : start + PAIRS]
            part = part[first[part[:, 0]] != first[part[:, 1]]]
            alike = (values[part[:, 0]] == values[part[:, 1]]).mean(axis=1) >= least
            for one, other in part[alike].tolist():
                _join(first, one, other)
    return np.flatnonzero(among & (_roots(first) != np.arange(len(among))))


def _neighbours(names: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Pairs of rows of one name: each with the one before it and with the first of that name: `[num_pairs, 2]`."""
    order, same = _sorted(names, among)
    if not same.any():
        return np.empty((0, 2), np.int64)
    starts = np.maximum.accumulate(np.where(np.concatenate([[False], same]), 0, np.arange(len(order))))
    heads = np.stack([order[starts[1:][same]], order[1:][same]], axis=1)
    return np.unique(np.concatenate([heads, np.stack([order[:-1][same], order[1:][same]], axis=1)]), axis=0)


class _Rows:
    """Rows of several arrays as of one."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = arrays
        self._starts = np.cumsum([0, *map(len, arrays)])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self._arrays[0].shape[1]), self._arrays[0].dtype)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for owner in np.unique(owners):
            where = owners == owner
            found[where] = self._arrays[owner][rows[where] - self._starts[owner]]
        return found


def _root(first: np.ndarray, row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row


def _join(first: np.ndarray, one: int, other: int) -> None:
    one, other = _root(first, one), _root(first, other)
    first[max(one, other)] = min(one, other)


def _roots(first: np.ndarray) -> np.ndarray:
    while not np.array_equal(first, first[first]):
        first = first[first]
    return first
