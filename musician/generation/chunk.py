"""What a decoder hands to a network, and what it expects of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one sequence.

    Attributes:
        cache: of the sequence, from `Forward.new_cache`.
        ids: the tokens, at positions `start`, `start + 1`, ...; what the cache held there is forgotten.
        start: positions before them, all in the cache.
        scored: of how many of the last tokens the scores are wanted.
    """

    cache: Any
    ids: Sequence[int]
    start: int
    scored: int = 1


class Forward(Protocol):
    """One pass of a network over the new tokens of many sequences, each with a key/value cache of its own.

    Attributes:
        drafts: tokens can be tried and taken back, and several of one sequence cost little more than one.
        positions: of the longest sequence the network was made for.
    """

    drafts: bool
    positions: int

    def new_cache(self, capacity: int) -> Any:
        """An empty cache for one sequence of at most so many tokens."""
        ...

    def __call__(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Scores `[scored, vocabulary]` of each chunk, fp32, on the device of the network."""
        ...
