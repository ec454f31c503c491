"""Which rows are dropped for their quality, judged on the sketches of all rows; the first of several alike stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from musician.data.quality.filters import Quality
from musician.data.quality.sketch import BAND, BANDS, SEED
from musician.data.store.split import concatenate

#: Pairs whose MinHash values are compared at once.
PAIRS = 1 << 16

_MIX = np.random.default_rng(SEED).integers(1, 2**63, size=BAND, dtype=np.uint64) | np.uint64(1)


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
        values = sketches[0].parent / "minhash.npy"
        concatenate([sketch / "minhash.npy" for sketch in sketches], values)
        near = _near(np.load(values, mmap_mode="r"), sound & (verdicts == 0), quality.near_text)
        verdicts[near] = first + 2
    return verdicts


def _joined(sketches: Sequence[Path], name: str) -> np.ndarray:
    return np.concatenate([np.load(sketch / f"{name}.npy") for sketch in sketches])


def _repeats(names: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Rows among the given ones whose name an earlier one has."""
    rows = np.flatnonzero(among)
    _, first, name = np.unique(names[rows], return_index=True, return_inverse=True)
    return rows[first[name] < np.arange(len(rows))]


def _near(values: np.ndarray, among: np.ndarray, least: float) -> np.ndarray:
    """Rows whose MinHash values are like those of an earlier row, directly or through others."""
    rows = np.flatnonzero(among)
    first = np.arange(len(among))
    for band in range(BANDS):
        names = (values[rows, band * BAND : (band + 1) * BAND] * _MIX).sum(axis=1, dtype=np.uint64)
        pairs = rows[_neighbours(names)]
        pairs = pairs[first[pairs[:, 0]] != first[pairs[:, 1]]]
        parts = (pairs[start : start + PAIRS] for start in range(0, len(pairs), PAIRS))
        alike = [part[(values[part[:, 0]] == values[part[:, 1]]).mean(axis=1) >= least] for part in parts]
        if alike:
            first = _connected(first, np.concatenate(alike))
    return np.flatnonzero(first != np.arange(len(first)))


def _neighbours(names: np.ndarray) -> np.ndarray:
    """Pairs of places of one name: each with the one before it and with the first of that name: `[num_pairs, 2]`."""
    order = np.argsort(names, kind="stable")
    same = np.flatnonzero(names[order[1:]] == names[order[:-1]])
    _, first, name = np.unique(names, return_index=True, return_inverse=True)
    later = order[same + 1]
    return np.unique(
        np.concatenate([np.stack([before, later], axis=1) for before in (order[same], first[name[later]])]), axis=0
    )


def _connected(first: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """First row of those that each row is connected with, when pairs are added to what was connected before."""
    one, other = np.concatenate([pairs, np.stack([first, np.arange(len(first))], axis=1)]).T
    graph = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(len(first), len(first)))
    _, group = connected_components(graph, directed=False)
    return np.unique(group, return_index=True)[1][group]
