"""Where in a tune the writer is."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import NamedTuple

from musician.music.grammar.vocabulary import TEXT_LENGTH, TICKS, Tuplet

UNTIED = "[]"
"""Stands, where a pitch is remembered, for what no tie may hold: a chord, a note that is played as several."""

FORGOTTEN = "?"
"""Stands for any pitch."""


class Mode(IntEnum):
    """What is being written; an integer, because states are hashed for each character."""

    FIELD = auto()  # the letter of a header field, at the start of a line
    COLON = auto()
    VALUE = auto()
    VOICE = auto()  # the line that names the voice
    OPENING = auto()  # a section begins, with a repeat sign or without
    MUSIC = auto()  # between the notes of a bar
    CHORD_NAME = auto()
    GRACE = auto()
    CHORD = auto()
    PITCH = auto()
    LENGTH = auto()
    TUPLET = auto()
    BROKEN = auto()
    BAR_LINE = auto()
    LINE_END = auto()  # nothing but the end of the line may follow
    BETWEEN = auto()  # a section has ended
    BEFORE = auto()  # the text that must stand before the tune
    AFTER = auto()  # the text that must stand after it


class State(NamedTuple):
    """A point in a tune; equal states allow equal continuations.

    Attributes:
        mode: what is being written.
        word: its characters so far, where it is one of a finite set.
        amount: characters left of a text field; notes of a chord or of grace notes so far.
        header: letter of the last header field.
        meter: of the header; empty in the body.
        unit: of the header; empty in the body.
        odd: time of 5, 7 and 9 notes in a tuplet that does not say; 0 where they must.
        full: ticks of a bar.
        left: ticks left in this bar.
        spare: how many of them stay unwritten where a section ends with this bar, because a pick-up completes it.
        pickup: ticks of the pick-up with which each section begins; None while the first bar may become one.
        eighth: ticks of which a pick-up has a whole number.
        upbeat: the bar is a pick-up.
        prefix: the last thing before the note that must follow: 0 none, 1 a chord symbol or the sign of a slur, 2 grace
            notes or that sign after them, 3 a decoration, 4 one that is played as several notes.
        gap: whether a blank may follow.
        newline: whether a line may end here.
        barred: a bar line stands on this line; one without might be taken for text.
        column: characters on this line of the body, 2 for more.
        rest: whether the length being written is that of a rest.
        last: ticks of the note before, where `>` or `<` may follow; else 0.
        need: ticks that the note after `>` or `<` must have; else 0.
        tuplet: the one in progress.
        note: the pitch of the note that is written or was just written, which a tie may hold, `[]` for one that none
            may hold; `?` is a pitch that was forgotten.
        tied: the ways to write the pitch that must follow a tie.
        altered: an accidental stands in this bar.
        slur: of an open slur: 1 without a note, 2 with one, 3 with more; else 0.
        bars: bars to begin after this one; None is free.
        sections: sections to begin after this one; None is free.
        part: `plain`, `repeat`, or in a repeat the `first` or `second` ending.
        voice: 0 in a tune of one voice, else 1 or 2.
        line: in a tune of two voices, the bar lines that voice 1 wrote on this line and the ticks before each, which
            voice 2 must write again.
        closed: a section ended with the last bar line.
        tonic: the letter of the key's tonic, which a short way to the end writes.
    """

    mode: Mode = Mode.FIELD
    word: str = ""
    amount: int = 0
    header: str = ""
    meter: str = ""
    unit: str = ""
    odd: int = 0
    full: int = 0
    left: int = 0
    spare: int = 0
    pickup: int | None = 0
    eighth: int = TICKS
    upbeat: bool = False
    prefix: int = 0
    gap: bool = False
    newline: bool = False
    barred: bool = False
    column: int = 2
    rest: bool = False
    last: int = 0
    need: int = 0
    tuplet: Tuplet | None = None
    note: str = ""
    tied: tuple[str, ...] = ()
    altered: bool = False
    slur: int = 0
    bars: int | None = None
    sections: int | None = None
    part: str = "plain"
    voice: int = 0
    line: tuple[tuple[str, int], ...] = ()
    closed: bool = False
    tonic: str = ""

    def to(self, mode: Mode, **changes: object) -> State:
        """The state with another mode, an empty word and these changes."""
        return self._replace(**{"mode": mode, "word": "", **changes})  # type: ignore[arg-type]

    def clipped(self, reach: int) -> State:
        """A state that allows the same next `reach` characters: a key for caches."""
        sections = None if self.sections is None else min(self.sections, reach)
        bars = self.bars
        if bars is not None:
            bars = min(bars - (self.sections or 0), reach) + (sections or 0)
        return self._replace(bars=bars, sections=sections, tonic="").clipped_text(reach)

    def clipped_text(self, reach: int) -> State:
        """The state with no more characters left of a text field than count for the next `reach`."""
        if self.mode is not Mode.VALUE or not reach < self.amount < TEXT_LENGTH:  # an empty text may not end
            return self
        return self._replace(amount=reach)

    def without_pitch(self) -> State:
        """The state with its last pitch forgotten, which only decides what a tie is followed by."""
        return self if self.note in ("", UNTIED) else self._replace(note=FORGOTTEN)
