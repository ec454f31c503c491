"""Finding which of many known sequences share a run of symbols with one that is read."""

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Symbols = Sequence[Hashable]
Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
_INVERSE = pow(_BASE, -1, 1 << 64)
_FILTER_BITS = 24


class RunIndex:
    """The runs of groups of sequences, as 64-bit hashes; memory grows with the groups alone.

    Args:
        groups: of sequences of symbols (words, steps of a melody).
        length: symbols of a run.
        shortest: a sequence shorter than a run, but not than this, counts as a run.
        common: runs that more groups than this have are left out.

    Attributes:
        covered: groups with a run.
    """

    def __init__(self, groups: Sequence[Sequence[Symbols]], length: int, shortest: int, common: int) -> None:
        self._codes: dict[Hashable, int] = {}
        for group in groups:
            for symbols in group:
                for symbol in symbols:
                    self._codes.setdefault(symbol, len(self._codes) + 1)
        self._bits = np.random.default_rng(13).integers(2**64, size=len(self._codes) + 1, dtype=np.uint64)
        sequences = [symbols for group in groups for symbols in group]
        self._groups = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        self._sizes = sorted({size for size in (min(len(each), length) for each in sequences) if size >= shortest})
        hashes = [self._own_runs(symbols, min(len(symbols), length)) for symbols in sequences]
        self._hashes, self._owners = _without_common(hashes, self._groups, common)
        self._totals = np.bincount(self._owners, minlength=len(sequences))
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[_short(self._hashes)] = True
        self.covered = len(set(self._groups[self._totals > 0].tolist()))

    def find(self, sequences: Iterable[Symbols]) -> dict[int, float]:
        """Return the groups that share a run with the given sequences, and how much.

        That is the share of the runs of a sequence that all the given ones together hold, of the group's best sequence.
        """
        read = [runs for symbols in sequences for runs in self._runs(symbols, self._sizes)]
        hashes = np.concatenate([np.empty(0, np.uint64), *read])
        # Most runs of a foreign text end here; the search behind it is slow on a large index.
        hashes = np.unique(hashes[self._filter[_short(hashes)]])
        first, last = (np.searchsorted(self._hashes, hashes, side=side) for side in ("left", "right"))
        hits = np.flatnonzero(last > first)
        owners = [self._owners[first[hit] : last[hit]] for hit in hits]
        found, counts = np.unique(np.concatenate([np.empty(0, np.int64), *owners]), return_counts=True)
        shares: dict[int, float] = {}
        for group, share in zip(self._groups[found].tolist(), counts / self._totals[found], strict=True):
            shares[group] = max(shares.get(group, 0.0), float(share))
        return shares

    def _own_runs(self, symbols: Symbols, size: int) -> Hashes:
        """Hashes of the runs of one of the index's own sequences, each once."""
        sizes = [size] if size in self._sizes else []
        return np.unique(np.concatenate([np.empty(0, np.uint64), *self._runs(symbols, sizes)]))

    def _runs(self, symbols: Symbols, sizes: Sequence[int]) -> Iterator[Hashes]:
        """Hashes of the runs of some sizes that hold no symbol foreign to the index."""
        if not sizes or len(symbols) < sizes[0]:
            return
        codes = np.fromiter((self._codes.get(symbol, 0) for symbol in symbols), np.int64, len(symbols))
        foreign = np.concatenate([[0], (codes == 0).cumsum()])
        powers, inverses = (_powers(base, len(codes)) for base in (_BASE, _INVERSE))
        sums = np.concatenate([np.zeros(1, np.uint64), (self._bits[codes] * powers).cumsum(dtype=np.uint64)])
        for size in sizes:
            known = np.flatnonzero(foreign[size:] == foreign[:-size])
            # The sum of a run, moved to begin at power 0; all modulo 2^64.
            yield (sums[known + size] - sums[known]) * inverses[known] + np.uint64(size)


def _powers(base: int, count: int) -> Hashes:
    """Return base^0, base^1, ... modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return factors.cumprod(dtype=np.uint64)


def _short(hashes: Hashes) -> NDArray[np.uint64]:
    """Return the first bits of hashes, as places in the filter."""
    return hashes >> np.uint64(64 - _FILTER_BITS)


def _without_common(
    hashes: Sequence[Hashes], groups: NDArray[np.int64], common: int
) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes that at most `common` groups have, in order, and the sequence each comes from."""
    owners = np.repeat(np.arange(len(hashes)), [len(each) for each in hashes])
    joined = np.concatenate([np.empty(0, np.uint64), *hashes])
    order = np.argsort(joined, kind="stable")
    joined, owners = joined[order], owners[order]
    _, inverse = np.unique(joined, return_inverse=True)
    # Of one hash the groups stand in order, so a change of either begins a new pair.
    fresh = np.ones(len(joined), np.bool_)
    fresh[1:] = (np.diff(inverse) != 0) | (np.diff(groups[owners]) != 0)
    rare = np.bincount(inverse[fresh])[inverse] <= common if len(joined) else fresh
    return joined[rare], owners[rare]
