"""Several sources as one, by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musician.data.sources.files import SourceRow
from musician.data.sources.source import Source
from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a mixture.

    Attributes:
        source: its rows.
        weight: its share of the rows, relative to the other weights.
        epochs: how often it is read before it is used up.
    """

    source: Source
    weight: float = 1.0
    epochs: int = 1


class MixtureSource:
    """Rows of several sources, interleaved so that every beginning holds them in the ratio of their weights.

    The next row comes from the part that is furthest behind its share; `seed` decides who begins. The mixture ends when
    a part is used up, so the ratio holds to the last row; what the others have left is not read. Nothing is held in
    memory, and the order is a function of the sources, the weights and the seed.

    Args:
        parts: the sources with their weights and epochs.
        seed: decides which part is how far into its turn at the start.
        limit: only the first so many rows.

    Raises:
        UserError: no part, a weight that is not positive, an epoch count below 1, a part without rows.
    """

    def __init__(self, parts: Sequence[Part], seed: int = 0, limit: int | None = None) -> None:
        if not parts:
            raise UserError("data.source.parts: a mixture needs at least one part")
        for number, part in enumerate(parts):
            if not (part.weight > 0 and np.isfinite(part.weight)) or part.epochs < 1:
                raise UserError(
                    f"data.source.parts[{number}]: weight={part.weight} must be > 0, epochs={part.epochs} at least 1"
                )
        self.parts, self.seed, self.limit = list(parts), seed, limit
        self._taken = [0] * len(self.parts)

    def identity(self) -> str:
        """Hash of the parts' contents, weights, epochs and the seed."""
        parts = [[part.source.identity(), part.weight, part.epochs] for part in self.parts]
        return hashlib.sha256(json.dumps([parts, self.seed, self.limit]).encode()).hexdigest()

    def num_rows(self) -> None:
        """Not known: it ends with whichever part is used up first."""

    def describe(self) -> dict[str, Any]:
        """The parts, and how many rows of each were taken when it was last read."""
        parts = [
            {"source": part.source.describe(), "weight": part.weight, "epochs": part.epochs, "rows_taken": taken}
            for part, taken in zip(self.parts, self._taken, strict=True)
        ]
        return {"parts": parts, "seed": self.seed, "limit": self.limit}

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows of the mixture."""
        weights = np.array([part.weight for part in self.parts])
        shares = weights / weights.sum()
        lead = np.random.default_rng(self.seed).random(len(shares))
        streams = [_repeated(part, number) for number, part in enumerate(self.parts)]
        self._taken = [0] * len(self.parts)
        count = 0
        while self.limit is None or count < self.limit:
            behind = shares * (count + 1) + lead * shares - self._taken
            chosen = int(np.argmax(behind))
            row = next(streams[chosen], None)
            if row is None:
                return
            self._taken[chosen] += 1
            count += 1
            yield row


def _repeated(part: Part, number: int) -> Iterator[SourceRow]:
    for epoch in range(part.epochs):
        row = None
        for row in part.source.rows():
            yield row
        if row is None and epoch == 0:
            raise UserError(f"data.source.parts[{number}]: has no rows; remove it or give another path")
