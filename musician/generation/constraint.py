"""Hold a model to the grammar of tunes: before each token, only those that can go on towards a whole tune are left."""

from __future__ import annotations

import string
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from musician.data.rendering.render import Renderer
from musician.data.rendering.template import CONTENT
from musician.generation.vocabulary import Node, Vocabulary
from musician.music.grammar import FORGOTTEN, TIE, State, TuneConstraints, TuneGrammar
from musician.runtime.errors import UserError

#: Every character that the grammar knows.
_CHARACTERS = string.ascii_letters + string.digits + " \n'\",.-()!?:|[]{}<>~^_=/#"

#: A token may put the end so many characters further away; a test asserts it. Nearer to the budget only the short way
#: is left.
_DETOUR = 80

#: Bounds of what is remembered: masks, lengths of completions, and ids below nodes of the vocabulary.
_MASKS, _LENGTHS, _IDS = 10_000, 100_000, 4_000_000

#: Instead of the number of a state: the character is refused, or it ties a forgotten pitch.
_REFUSED, _TIED = -1, -2

#: Ids below a node, and the nodes and numbers of states at which a forgotten pitch would be tied.
_Below = tuple[list[int], list[tuple[Node, int]]]


class GrammarConstraint:
    """Which tokens may come next, for one tokenizer and one set of constraints.

    Args:
        tokenizer: a fast tokenizer with an end-of-sequence token.
        constraints: what every tune must be.
        before: text that must stand before the tune.
        after: text that must stand after it.

    Raises:
        UserError: the tokenizer cannot write every character of the grammar alone.
    """

    def __init__(
        self, tokenizer: Any, constraints: TuneConstraints | None = None, before: str = "", after: str = ""
    ) -> None:
        self.vocabulary = Vocabulary(tokenizer, _CHARACTERS)
        self.grammar = TuneGrammar(constraints, before, after)
        self.eos = int(tokenizer.eos_token_id)
        self._masks: OrderedDict[tuple[State, str], Tensor] = OrderedDict()
        self._lengths: dict[State, int] = {}
        self._forget()

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
        length = self._length(state)
        if left <= length:
            raise UserError(f"constrain: a tune needs {length + 1} more tokens, {left} are left; raise max_new_tokens")
        if left <= length + _DETOUR:
            return torch.tensor([self.vocabulary.single[self.grammar.closing(state)] if length else self.eos])
        key = (state.clipped(self.vocabulary.root.reach).without_pitch(), state.note)
        if key not in self._masks:
            self._masks[key] = torch.tensor(sorted(self._usable(*key)))
            if len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        self._masks.move_to_end(key)
        return self._masks[key]

    def _length(self, state: State) -> int:
        """Characters of a short way to the end; ways meet at the next bar line, so few are walked twice."""
        way: list[State] = []
        at = state
        while at not in self._lengths and not self.grammar.accepts(at):
            way.append(at)
            following = self.grammar.step(at, self.grammar.closing(at))
            assert following is not None, at
            at = following
        length = self._lengths.get(at, 0)
        if len(self._lengths) > _LENGTHS:
            self._lengths.clear()
        for more, passed in enumerate(reversed(way), 1):
            self._lengths[passed] = length + more
        return length + len(way)

    def _usable(self, state: State, note: str) -> list[int]:
        """Ids that may come next; what does not depend on the pitch of the last note is found once for all pitches."""
        if self._remembered > _IDS:
            self._forget()
        ids, ties = self._below(self.vocabulary.root, self._number(state))
        ids = [self.eos, *ids] if self.grammar.accepts(state) else list(ids)
        for node, number in ties:
            after = self.grammar.step(self._states[number]._replace(note=note), TIE)
            if after is not None:
                ids += self._below(node, self._number(after))[0]
        return ids

    def _below(self, node: Node, number: int) -> _Below:
        """Ids of the tokens below a node whose remaining characters the grammar takes from a state."""
        found = self._subtrees.get((node, number))
        if found is not None:
            return found
        ids, ties, steps = list(node.ids), [], self._steps[number]
        for child in node.children.values():
            following = steps.get(child.arrival)
            if following is None:
                following = steps[child.arrival] = self._step(number, *child.arrival)
            if following == _TIED:
                ties.append((child, number))
            elif not child.children:
                ids += child.ids if following != _REFUSED else ()
            elif following != _REFUSED:
                more, further = self._below(child, following)
                ids += more
                ties += further
        self._subtrees[node, number] = ids, ties
        self._remembered += len(ids) + 1
        return ids, ties

    def _step(self, number: int, character: str, reach: int) -> int:
        """The number of the state after a character, of which only the next `reach` characters count."""
        state, taken = self._states[number], self._taken[number]
        if character == TIE and state.note == FORGOTTEN:
            return _TIED
        if character not in taken:
            taken[character] = self.grammar.step(state, character)
        following = taken[character]
        return _REFUSED if following is None else self._number(following.clipped_text(reach))

    def _number(self, state: State) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
            self._steps.append({})
            self._taken.append({})
        return number

    def _forget(self) -> None:
        """Drop the states met so far: equal ones have one number, with their steps and the ids below each node."""
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []
        self._steps: list[dict[tuple[str, int], int]] = []
        self._taken: list[dict[str, State | None]] = []
        self._subtrees: dict[tuple[Node, int], _Below] = {}
        self._remembered = 0


class ConstrainedLogits(LogitsProcessor):
    """The constraint as a logits processor of transformers' `generate`, any batch size, prompts padded on the left.

    Rows are recognised by what was generated, so beams may be reordered too. Make a new one for each call.

    Args:
        constraint: of the tokenizer.
        max_new_tokens: the budget given to `generate`.
    """

    def __init__(self, constraint: GrammarConstraint, max_new_tokens: int) -> None:
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


def answer_constraint(renderer: Renderer, constraints: TuneConstraints | None = None) -> GrammarConstraint:
    """The constraint on answers: a tune within what the chat template writes around an answer."""
    before, _, after = renderer.template.assistant[-2].partition(CONTENT)
    return GrammarConstraint(renderer.tokenizer, constraints, before, after)
