"""Which tunes a run trains on, and which it holds out: for benchmarks made from tunes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from musician.data.sources.source import TuneSource
from musician.data.store.splits import is_held_out


def held_out_tunes(
    collections: Sequence[str] | None = None,
    root: str | None = None,
    validation_fraction: float = 0.02,
    split_seed: int = 0,
) -> list[str]:
    """Texts of the tunes that a `TuneSource` of the same arguments holds out, in an order of their own.

    For benchmarks made from tunes: what trains on the same collections, fraction and seed never sees their families.
    """
    held_out = _parted(TuneSource(collections, root), validation_fraction, split_seed)[True]
    return sorted(held_out, key=lambda text: hashlib.sha256(text.encode()).digest())


def training_tunes(
    collections: Sequence[str] | None = None,
    root: str | None = None,
    validation_fraction: float = 0.02,
    split_seed: int = 0,
) -> list[str]:
    """Texts of the tunes that a `TuneSource` of the same arguments trains on."""
    return _parted(TuneSource(collections, root), validation_fraction, split_seed)[False]


def _parted(source: TuneSource, validation_fraction: float, split_seed: int) -> dict[bool, list[str]]:
    """The texts of a source by whether they are held out."""
    texts: dict[bool, list[str]] = {False: [], True: []}
    for tune, family in zip(source.tunes(), source.families(), strict=True):
        texts[is_held_out(family, validation_fraction, split_seed)].append(tune.text)
    return texts
