"""Which tunes a run trains on, and which it holds out: for benchmarks made from tunes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from musician.data.sources.source import TuneSource
from musician.data.store.splits import is_held_out


def split_tunes(
    held_out: bool = True,
    collections: Sequence[str] | None = None,
    root: str | None = None,
    validation_fraction: float = 0.02,
    split_seed: int = 0,
) -> list[str]:
    """Return the texts of the tunes that a `TuneSource` of the same arguments holds out, or of those it trains on.

    For benchmarks made from tunes: what trains on the same collections, fraction and seed never sees the families held
    out. Their order is that of a hash; the others are in the order of the source.
    """
    source = TuneSource(collections, root)
    pairs = zip(source.tunes(), source.families(), strict=True)
    found = [tune.text for tune, key in pairs if is_held_out(key, validation_fraction, split_seed) == held_out]
    return sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest()) if held_out else found
