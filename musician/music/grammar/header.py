"""The header: `X:`, some text fields, `M:` and `L:`, perhaps `Q:`, then `K:`."""

from __future__ import annotations

from fractions import Fraction

from musician.music.grammar.constraints import TuneConstraints
from musician.music.grammar.state import Mode, State
from musician.music.grammar.vocabulary import (
    KEYS,
    METERS,
    REFERENCES,
    TEMPI,
    TEXT_CHARACTERS,
    TEXT_FIELDS,
    TEXT_LENGTH,
    TICKS,
    UNITS,
    odd_time,
)
from musician.music.grammar.words import plain_words

_ORDER = "X" + TEXT_FIELDS + "MLQK"


class Header:
    """Steps of the header.

    Args:
        constraints: which key, meter and unit are taken.
    """

    def __init__(self, constraints: TuneConstraints) -> None:
        self.constraints = constraints
        self.values = {
            "X": plain_words(REFERENCES),
            "M": plain_words([constraints.meter] if constraints.meter else METERS),
            "L": plain_words([constraints.unit] if constraints.unit else UNITS),
            "Q": plain_words(TEMPI),
            "K": plain_words([constraints.key] if constraints.key else KEYS),
        }

    def fields(self, state: State) -> str:
        """Letters of the fields that may come next."""
        if not state.header:
            return "X"
        if state.meter and state.unit:
            return "K" if state.header == "Q" else "QK"
        if state.meter or state.unit:
            return "L" if state.meter else "M"
        return _ORDER[_ORDER.index(state.header) + 1 : _ORDER.index("Q")]

    def step(self, state: State, character: str) -> State | None:
        """The state after one more character of the header, None where it may not stand."""
        if state.mode is Mode.FIELD:
            return state.to(Mode.COLON, header=character) if character in self.fields(state) else None
        if state.mode is Mode.COLON:
            return state.to(Mode.VALUE, amount=TEXT_LENGTH) if character == ":" else None
        if state.header in TEXT_FIELDS:
            return self._text(state, character)
        words = self.values[state.header]
        if words.begins(state.word + character):
            return state._replace(word=state.word + character)
        return self._line_end(state) if character == "\n" and state.word in words else None

    def closing(self, state: State) -> str:
        """The next character on a short way out of the header."""
        if state.mode is Mode.FIELD:
            allowed = self.fields(state)
            return next(letter for letter in "XKML" if letter in allowed)
        if state.mode is Mode.COLON:
            return ":"
        if state.header in TEXT_FIELDS:
            return "A" if state.amount == TEXT_LENGTH else "\n"
        word = self.values[state.header].shortest(state.word)
        return (word + "\n")[len(state.word)]

    def _text(self, state: State, character: str) -> State | None:
        if character == "\n":
            return state.to(Mode.FIELD, amount=0) if state.amount < TEXT_LENGTH else None
        if character not in TEXT_CHARACTERS or not state.amount:
            return None
        return state._replace(amount=state.amount - 1)

    def _line_end(self, state: State) -> State:
        field = {"M": "meter", "L": "unit"}.get(state.header)
        changes = {field: state.word} if field else {}
        tonic = state.word[:1]
        state = state.to(Mode.FIELD, amount=0, **changes)
        return self._body(state, tonic) if state.header == "K" else state

    def _body(self, state: State, tonic: str) -> State:
        ticks = int(METERS[state.meter].duration / UNITS[state.unit] * TICKS)
        two = self.constraints.voices == 2
        return State(
            Mode.VOICE if two else Mode.OPENING,
            odd=odd_time(state.meter),
            full=ticks,
            left=ticks,
            pickup=None,
            eighth=_eighth(state.meter, state.unit),
            bars=self.constraints.bars,
            sections=self.constraints.sections,
            voice=1 if two else 0,
            closed=True,
            tonic=tonic,
        )


def _eighth(meter: str, unit: str) -> int:
    """Ticks of an eighth note; a quarter in 5/4, where abc2midi plays chord symbols in quarters to the very end."""
    return int((Fraction(1, 4) if meter == "5/4" else Fraction(1, 8)) / UNITS[unit] * TICKS)
