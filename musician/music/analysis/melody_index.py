"""Which of many sequences share a run of codes with another: melodies by their steps, texts by their words.

A code is any 64-bit number but 0, which marks a place that no run may cross: the end of a sequence, a foreign symbol.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint64]
Places = NDArray[np.int64]

_MULTIPLIERS = np.random.default_rng(20240225).integers(1, 2**63, size=1024, dtype=np.uint64) | np.uint64(1)


def runs(codes: Codes, size: int) -> tuple[Codes, Places]:
    """Return a 64-bit hash of each run of `size` codes without a 0, and where the run begins."""
    count = max(0, len(codes) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(size):
        hashes += codes[place : place + count] * _MULTIPLIERS[place]
    zeros = np.concatenate([[0], np.cumsum(codes == 0)])
    places = np.flatnonzero(zeros[size : size + count] == zeros[:count])
    return hashes[places], places


class RunIndex:
    """All runs of one size in many sequences, in 24 bytes a code.

    Args:
        sequences: codes of each, `[length]`.
        size: codes of a run.
        groups: the group of each sequence, ascending; None makes each its own.
        common: runs that more groups than this have are left out; None keeps all.

    Attributes:
        codes: of all sequences in a row, a 0 after each.
        starts: where each sequence begins in `codes`, and their end.
        places: where each run begins in `codes`, in the order of the runs' hashes.
    """

    def __init__(
        self,
        sequences: Sequence[Codes],
        size: int,
        groups: Sequence[int] | None = None,
        common: int | None = None,
    ) -> None:
        self.size = size
        self.starts = np.cumsum([0, *(len(codes) + 1 for codes in sequences)])
        self.codes = np.zeros(self.starts[-1], np.uint64)
        for start, codes in zip(self.starts, sequences, strict=False):
            self.codes[start : start + len(codes)] = codes
        hashes, places = runs(self.codes, size)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self.places = hashes[order], places[order]
        if common is not None:
            owners = self.owners(self.places)
            rare = self._rare(owners if groups is None else np.asarray(groups)[owners], common)
            self._hashes, self.places = self._hashes[rare], self.places[rare]

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.starts) - 1

    def owners(self, places: Places) -> Places:
        """Return the number of the sequence that holds each place of `codes`."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def find(self, codes: Codes) -> tuple[Places, Places]:
        """Return every pair of equal runs: where it begins in the codes given, and where in `codes` of the index."""
        hashes, begins = runs(codes, self.size)
        low = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - low
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(begins, counts), self.places[np.repeat(low, counts) + nth]

    def shared(self) -> Places:
        """Return pairs of sequences that share a run, `[pairs, 2]`: enough of them to connect all that do."""
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        owners = self.owners(self.places)
        return np.stack([owners[same], owners[same + 1]], axis=1)

    def _rare(self, groups: Places, common: int) -> NDArray[np.bool_]:
        """Whether each run is one that at most `common` groups have."""
        _, run = np.unique(self._hashes, return_inverse=True)
        first = np.ones(len(run), np.bool_)  # of its run in its group, whose places stand in order
        first[1:] = (np.diff(run) != 0) | (np.diff(groups) != 0)
        return np.bincount(run[first])[run] <= common if len(run) else first
