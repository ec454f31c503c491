"""Many answers written at once: each joins when there is room, leaves when it ends, and is drawn from its own seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from musician.generation.chunk import Chunk, Forward
from musician.generation.constraint import GrammarConstraint
from musician.generation.lookup import Lookup
from musician.generation.sampling import Sampling, draw
from musician.runtime.errors import UserError

#: Prompt tokens that one step takes in; a longer prompt goes alone.
_PROMPT_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Event:
    """What a step wrote of one answer.

    Attributes:
        handle: which answer.
        tokens: its next ids, without the end-of-sequence token.
        end: None while it goes on; `stop` after the end-of-sequence token, `length` after `max_new_tokens` or at the
            end of the network's positions, `failed` where `error` says why.
        error: of this answer alone.
    """

    handle: int
    tokens: tuple[int, ...]
    end: str | None
    error: Exception | None = None


class Decoder:
    """Continuous batching in one thread: submit at any time, step until idle.

    An answer does not depend on what else is written, up to the rounding of a matrix product of other size.

    Args:
        forward: from `prepare`.
        eos: the end-of-sequence id.
        rows: answers written at once; more wait.
    """

    def __init__(self, forward: Forward, eos: int, rows: int = 16) -> None:
        self._forward = forward
        self._eos = eos
        self._rows = rows
        self._handles = count()
        self._waiting: deque[_Row] = deque()
        self._active: list[_Row] = []

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._active or self._waiting)

    def submit(self, prompt: Sequence[int], sampling: Sampling, constraint: GrammarConstraint | None = None) -> int:
        """Ask for an answer and return its handle; it is begun in a later step.

        Args:
            prompt: ids so far, at least one.
            sampling: how to draw, with the seed of this answer.
            constraint: hold the answer to a tune.

        Raises:
            UserError: a prompt that leaves no position free; a constraint that cannot be met in what is left.
        """
        row = _Row(next(self._handles), list(prompt), sampling, constraint, self._eos, self._forward)
        self._waiting.append(row)
        return row.handle

    def cancel(self, handle: int) -> None:
        """End an answer now and free its memory; one that has ended already is left alone."""
        self._active = [row for row in self._active if row.handle != handle]
        self._waiting = deque(row for row in self._waiting if row.handle != handle)

    def step(self) -> list[Event]:
        """Write at least one more token of every answer under way; one that fails ends, the others go on."""
        self._admit()
        rows = self._active
        events = self._events(rows) if rows else []
        self._active = [row for row, event in zip(rows, events, strict=True) if event.end is None]
        return events

    def _events(self, rows: list[_Row]) -> list[Event]:
        try:
            scores = self._forward([row.chunk() for row in rows])
        except Exception as error:
            if len(rows) == 1:
                return [Event(rows[0].handle, (), "failed", error)]
            # A pass can be made again: each alone tells whose fault it was.
            return [event for row in rows for event in self._events([row])]
        return [_taken(row, found) for row, found in zip(rows, scores, strict=True)]

    def _admit(self) -> None:
        room = _PROMPT_TOKENS
        while self._waiting and len(self._active) < self._rows:
            needed = len(self._waiting[0].written)
            if needed > room and room < _PROMPT_TOKENS:
                return
            room -= needed
            self._active.append(self._waiting.popleft())


def _taken(row: _Row, scores: Tensor) -> Event:
    try:
        return row.take(scores)
    except Exception as error:
        return Event(row.handle, (), "failed", error)


def complete(
    forward: Forward,
    prompts: Iterable[tuple[Sequence[int], Sampling]],
    eos: int,
    constraint: GrammarConstraint | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each prompt and the ids of its answer, in the order in which they end.

    Args:
        forward: from `prepare`.
        prompts: ids, and how to draw.
        eos: the end-of-sequence id.
        constraint: hold every answer to a tune.

    Raises:
        UserError: as from `Decoder.submit`.
    """
    decoder = Decoder(forward, eos)
    written: dict[int, list[int]] = {decoder.submit(ids, sampling, constraint): [] for ids, sampling in prompts}
    while not decoder.idle:
        for event in decoder.step():
            if event.error:
                raise event.error
            written[event.handle] += event.tokens
            if event.end:
                yield event.handle, written.pop(event.handle)


class _Row:
    """One answer being written."""

    def __init__(
        self,
        handle: int,
        prompt: list[int],
        sampling: Sampling,
        constraint: GrammarConstraint | None,
        eos: int,
        forward: Forward,
    ) -> None:
        self.handle, self.written, self.sampling, self.constraint = handle, prompt, sampling, constraint
        self._eos, self._forward = eos, forward
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._lookup = Lookup() if forward.drafts else None
        self._left = min(sampling.max_new_tokens, forward.positions - len(prompt))
        if not prompt or self._left < 1:
            raise UserError(f"a prompt has {len(prompt)} tokens, this model takes 1 to {forward.positions - 1}")
        self._state = constraint.start() if constraint else None
        self._cache: Any = None
        self._fed = 0
        self._guessed: list[int] = []
        if constraint and self._state:
            constraint.allowed(self._state, self._left)

    def chunk(self) -> Chunk:
        """What the network has not seen yet, and guesses at what follows."""
        if self._cache is None:
            self._cache = self._forward.new_cache(len(self.written) + self._left)
        elif self._lookup:
            self._guessed = self._lookup.guess(self.written, self._left - 1)
        return Chunk(self._cache, self.written[self._fed :] + self._guessed, self._fed, 1 + len(self._guessed))

    def take(self, scores: Tensor) -> Event:
        """Draw from scores `[1 + guesses, vocabulary]` until a guess was wrong."""
        self._fed = len(self.written)
        drawn: list[int] = []
        end = None
        for row, guess in zip(scores, [*self._guessed, None], strict=True):
            token = self._draw(row)
            if token == self._eos:
                end = "stop"
                break
            drawn.append(token)
            self.written.append(token)
            self._left -= 1
            if not self._left:
                end = "length"
                break
            if token != guess:
                break
        # A wrong guess ends the draw, so what agrees stands first; that much the cache holds already.
        self._fed += sum(token == guess for token, guess in zip(drawn, self._guessed, strict=False))
        return Event(self.handle, tuple(drawn), end)

    def _draw(self, scores: Tensor) -> int:
        allowed = self.constraint.allowed(self._state, self._left) if self.constraint and self._state else None
        token = draw(scores, self.written, self.sampling, self._generator, allowed)
        if self.constraint and self._state and token != self._eos:
            self._state = self.constraint.advance(self._state, token)
        return token
