"""Hold a model to the grammar of tunes: before each token, only those that can go on towards a whole tune are left."""

from __future__ import annotations

import string
from collections import OrderedDict
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LogitsProcessor

from musician.data.rendering.render import Renderer
from musician.data.rendering.template import CONTENT
from musician.generation.vocabulary import Node, Vocabulary
from musician.music.grammar import FORGOTTEN, TIE, State, TuneGrammar, Wishes
from musician.runtime.errors import UserError

#: Every character that the grammar knows.
_CHARACTERS = string.ascii_letters + string.digits + " \n'\",.-()!?:|[]{}<>~^_=/#"

#: A token may put the end so many characters further away; a test asserts it. Nearer to the budget only the short way
#: is left.
_DETOUR = 80

_CACHED = 20_000

#: A node of the vocabulary and the state in which it is reached.
_Place = tuple[Node, State]

K = TypeVar("K")
V = TypeVar("V")


class TuneConstraint:
    """Which tokens may come next, for one tokenizer and one set of wishes.

    Args:
        tokenizer: a fast tokenizer with an end-of-sequence token.
        wishes: what every tune must be.
        before: text that must stand before the tune.
        after: text that must stand after it.

    Raises:
        UserError: the tokenizer cannot write every character of the grammar alone.
    """

    def __init__(self, tokenizer: Any, wishes: Wishes | None = None, before: str = "", after: str = "") -> None:
        self.vocabulary = Vocabulary(tokenizer, _CHARACTERS)
        self.grammar = TuneGrammar(wishes, before, after)
        self.eos = int(tokenizer.eos_token_id)
        self._allowed: OrderedDict[tuple[State, str], Tensor] = OrderedDict()
        self._shared: OrderedDict[State, tuple[list[int], list[_Place]]] = OrderedDict()
        self._completions: dict[State, str] = {}

    def start(self) -> State:
        """The state before the first token."""
        return self.grammar.start()

    def advance(self, state: State, token: int) -> State | None:
        """The state after a token, None after one that was not allowed."""
        text = self.vocabulary.texts.get(token)
        return self.grammar.walk(state, text) if text else None

    def allowed(self, state: State, left: int) -> Tensor:
        """Ids that may come next so that the tune can still end in `left` tokens, the one that ends it included.

        Raises:
            UserError: no tune can end in so few tokens.
        """
        if left <= self._far(state):
            rest = self._completion(state)
            if left <= len(rest):
                needed = len(rest) + 1
                raise UserError(f"constrain: a tune needs {needed} more tokens, {left} are left; raise max_new_tokens")
            if left <= len(rest) + _DETOUR:
                return torch.tensor([self.vocabulary.single[rest[0]] if rest else self.eos])
        key = (state.clipped(self.vocabulary.longest), state.note)
        found = self._allowed.get(key)
        if found is None:
            found = _remember(self._allowed, key, torch.tensor(self._usable(*key)))
        return found

    def _far(self, state: State) -> int:
        """A number of tokens above which there is no need to look at the way to the end."""
        bars = (state.bars or 0) + 2 * (state.sections or 0) + len(state.line) + 2  # a section may have a pick-up
        return 10 * bars * self.grammar.wishes.voices + 100 + _DETOUR

    def _completion(self, state: State) -> str:
        if state not in self._completions:
            if len(self._completions) > _CACHED:
                self._completions.clear()
            self._completions[state] = self.grammar.completion(state)
        return self._completions[state]

    def _usable(self, state: State, note: str) -> list[int]:
        """Ids that may come next; what does not depend on the pitch of the last note is found once for all pitches."""
        found = self._shared.get(state)
        if found is None:
            first = [self.eos] if self.grammar.accepts(state) else []
            ids, ties = self._walk([(self.vocabulary.root, state)])
            found = _remember(self._shared, state, (first + ids, ties))
        ids, ties = found
        for node, at in ties:
            after = self.grammar.step(at._replace(note=note), TIE)
            if after is not None:
                ids = ids + node[0] + self._walk([(node, after)])[0]
        return ids

    def _walk(self, pending: list[_Place]) -> tuple[list[int], list[_Place]]:
        """Ids whose characters the grammar takes one after the other, and where it comes to tie a forgotten pitch."""
        ids: list[int] = []
        ties: list[_Place] = []
        while pending:
            (_, children), at = pending.pop()
            for character, child in children.items():
                if character == TIE and at.note == FORGOTTEN:
                    ties.append((child, at))
                    continue
                following = self.grammar.step(at, character)
                if following is not None:
                    ids += child[0]
                    pending.append((child, following))
        return ids, ties


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> V:
    cache[key] = value
    if len(cache) > _CACHED:
        cache.popitem(last=False)
    return value


class ConstrainedLogits(LogitsProcessor):
    """The constraint as a logits processor of transformers' `generate`, any batch size, prompts padded on the left.

    Rows are recognised by what was generated, so beams may be reordered too. Make a new one for each call.

    Args:
        constraint: of the tokenizer.
        max_new_tokens: the budget given to `generate`.
    """

    def __init__(self, constraint: TuneConstraint, max_new_tokens: int) -> None:
        self.constraint = constraint
        self.max_new_tokens = max_new_tokens
        self._prompt: int | None = None
        self._states: dict[tuple[int, ...], State | None] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[rows, vocabulary]` with all but the allowed ids at minus infinity."""
        if self._prompt is None:
            self._prompt = input_ids.shape[1]
        written = [tuple(row) for row in input_ids[:, self._prompt :].tolist()]
        self._states = {row: self._state(row) for row in written}
        left = self.max_new_tokens - len(written[0])
        return torch.stack([self._row(self._states[row], left, at) for row, at in zip(written, scores, strict=True)])

    def _state(self, written: tuple[int, ...]) -> State | None:
        if not written:
            return self.constraint.start()
        if written[:-1] not in self._states:
            self._states[written[:-1]] = self._state(written[:-1])
        before = self._states[written[:-1]]
        return self.constraint.advance(before, written[-1]) if before else None

    def _row(self, state: State | None, left: int, scores: Tensor) -> Tensor:
        # A row without a state has ended; generate ignores what it draws, but something must be there to draw.
        ids = torch.tensor([self.constraint.eos]) if state is None else self.constraint.allowed(state, left)
        return mask(scores, ids)


def mask(scores: Tensor, ids: Tensor) -> Tensor:
    """Scores `[vocabulary]` with all but these ids at minus infinity."""
    ids = ids.to(scores.device)
    return torch.full_like(scores, float("-inf")).index_copy_(0, ids, scores[ids])


def answer_constraint(renderer: Renderer, wishes: Wishes | None = None) -> TuneConstraint:
    """The constraint on answers: a tune within what the chat template writes around an answer."""
    before, _, after = renderer.template.assistant[-2].partition(CONTENT)
    return TuneConstraint(renderer.tokenizer, wishes, before, after)
