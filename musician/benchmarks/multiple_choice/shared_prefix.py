"""Scoring many prompts that begin alike: what they share runs once, their ends run packed behind it.

Five-shot MMLU repeats some 500 tokens of examples before each question of a subject. The rows are sorted into a radix
tree of token ids; a branch whose shared part is worth it is run once into a key/value cache, and what hangs below it
follows in packed rows, in which each end sees the cache and itself. Nested shared parts (the examples, then the passage
that several questions are about) extend the cache step by step. Exact: only the order of summation differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musician.benchmarks.multiple_choice.forward import Row, fp32_logits, letter_logprobs
from musician.lm.language_model import LanguageModel
from musician.model.network import cached_hidden_states, new_cache

#: Tokens that sharing must save before it is worth a forward of its own.
WORTHWHILE = 64


@dataclass(frozen=True, slots=True)
class Extend:
    """Run `ids` behind the first `depth` positions of the cache, and keep them in it."""

    depth: int
    ids: np.ndarray


@dataclass(frozen=True, slots=True)
class Read:
    """Run what follows position `depth` of some rows, side by side, and read each one's last position."""

    depth: int
    rows: tuple[int, ...]


Step = Extend | Read


@dataclass(frozen=True, slots=True)
class Plan:
    """Forwards in order, and the rows that share too little with any other.

    Attributes:
        steps: run one after the other on one cache, each on the first `depth` positions of it.
        alone: positions of the rows to run without a cache.
    """

    steps: tuple[Step, ...]
    alone: tuple[int, ...]

    def forwarded_tokens(self, rows: Sequence[Row]) -> int:
        """Tokens that go through the network."""
        steps = sum(
            len(step.ids) if isinstance(step, Extend) else sum(len(rows[i].ids) - step.depth for i in step.rows)
            for step in self.steps
        )
        return steps + sum(len(rows[i].ids) for i in self.alone)


def plan(rows: Sequence[Row], max_tokens: int) -> Plan:
    """Decide what to run once; rows without letters run alone.

    Args:
        rows: to be scored.
        max_tokens: tokens of a packed forward; a longer single end goes alone in one.
    """
    # Big-endian bytes of non-negative ids sort as the ids do.
    order = sorted((i for i, row in enumerate(rows) if row.letters), key=lambda i: rows[i].ids.astype(">i4").tobytes())
    whole = tuple(i for i, row in enumerate(rows) if not row.letters)
    planner = _Planner(rows, order, max_tokens)
    alone = planner.visit(0, len(order), 0)
    return Plan(tuple(planner.steps), (*alone, *whole))


class _Planner:
    """Walks the radix tree of sorted rows; a node is a range of them."""

    def __init__(self, rows: Sequence[Row], order: Sequence[int], max_tokens: int) -> None:
        self._rows = rows
        self._order = order
        self._lengths = np.array([len(rows[i].ids) for i in order])
        #: Common ids of each row and the one before it.
        self._shared = np.array([0, *(_common(rows[i].ids, rows[j].ids) for i, j in pairwise(order))])
        self._max_tokens = max_tokens
        self.steps: list[Step] = []

    def visit(self, low: int, high: int, depth: int) -> list[int]:
        """Plan the rows low..high below a cache of `depth` positions; return those left to be read at that depth."""
        if high - low <= 1:
            return list(self._order[low:high])
        common = int(self._shared[low + 1 : high].min())
        # Each row keeps at least one id of its own, whose state is read.
        length = min(common, int(self._lengths[low:high].min()) - 1)
        cuts = [low, *(low + 1 + np.flatnonzero(self._shared[low + 1 : high] == common)), high]
        children = list(pairwise(cuts))
        if (length - depth) * (high - low - 1) < WORTHWHILE:
            return [row for child in children for row in self.visit(int(child[0]), int(child[1]), depth)]
        self.steps.append(Extend(depth, self._rows[self._order[low]].ids[depth:length]))
        ends = [row for child in children for row in self.visit(int(child[0]), int(child[1]), length)]
        self.steps += [Read(length, rows) for rows in self._packed(ends, length)]
        return []

    def _packed(self, rows: Sequence[int], depth: int) -> Iterator[tuple[int, ...]]:
        """Fill packed forwards with ends, in order."""
        pack: list[int] = []
        tokens = 0
        for row in rows:
            size = len(self._rows[row].ids) - depth
            if pack and tokens + size > self._max_tokens:
                yield tuple(pack)
                pack, tokens = [], 0
            pack.append(row)
            tokens += size
        if pack:
            yield tuple(pack)


def run_plan(model: LanguageModel, rows: Sequence[Row], steps: Sequence[Step]) -> Iterator[Results]:
    """Run the steps of a plan; after each, yield the positions of the rows it read and their numbers.

    The numbers of a row are those of `musician.benchmarks.multiple_choice.forward.score_rows`.
    """
    cache = new_cache()
    for step in steps:
        if step.depth == 0:
            cache = new_cache()
        elif cache.get_seq_length() > step.depth:
            cache.crop(step.depth - cache.get_seq_length())  # a negative number removes so many at the end
        if isinstance(step, Extend):
            ids = torch.as_tensor(step.ids, dtype=torch.long, device=model.device)[None]
            positions = torch.arange(step.depth, step.depth + ids.shape[1], device=model.device)[None]
            with model.autocast():
                cached_hidden_states(model.network, ids, positions, cache)
            yield (), []
        else:
            yield step.rows, _read(model, [rows[i] for i in step.rows], step.depth, cache)


def _read(model: LanguageModel, rows: Sequence[Row], depth: int, cache: Any) -> list[list[float]]:
    ends = [row.ids[depth:] for row in rows]
    lengths = torch.tensor([len(end) for end in ends])
    ids = torch.as_tensor(np.concatenate(ends), dtype=torch.long, device=model.device)[None]
    positions = torch.cat([torch.arange(depth, depth + int(length)) for length in lengths]).to(model.device)[None]
    with model.autocast():
        mask = _isolation(lengths, depth).to(model.device)
        hidden = cached_hidden_states(model.network, ids, positions, cache, mask)
    last = hidden[0, (lengths.cumsum(0) - 1).to(hidden.device)]
    with fp32_logits(model.network, hidden.device) as logits:
        return letter_logprobs(last, [row.letters for row in rows], logits)


def _isolation(lengths: Tensor, depth: int) -> Tensor:
    """Boolean mask `[1, 1, tokens, depth + tokens]`: each token sees the cache and its own end up to itself."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(len(owner))
    own = (owner[:, None] == owner[None, :]) & (place[:, None] >= place[None, :])
    return torch.cat([torch.ones(len(owner), depth, dtype=torch.bool), own], dim=1)[None, None]


#: Positions of rows, and the numbers of each.
Results = tuple[Sequence[int], list[list[float]]]


def _common(one: np.ndarray, other: np.ndarray) -> int:
    size = min(len(one), len(other))
    differs = one[:size] != other[:size]
    return int(differs.argmax()) if differs.any() else size
