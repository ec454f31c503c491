"""A tune and what it is made of: notes, bars, and the spans of everything else that is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from musician.music.abc.key import Key
from musician.music.abc.lexer import lines
from musician.music.abc.meter import Meter

ZERO = Fraction(0)


class Element(NamedTuple):
    """Something written that is no note: `text` stands at `start` to `end` of the tune's text.

    `kind` is `field` (the whole of `K:D`, brackets and comment left out), `bar`, `ending`, `quoted` (a chord symbol or
    an annotation, quotes left out), `decoration`, `tuplet` (without its parenthesis), `broken`, `grace` (braces
    included), `chord` (brackets included), `separate_tie`, `overlay` or `unread` (passed over: no ABC).
    """

    kind: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """One written note or rest.

    `midi` is 0 to 127 (60 is ABC's `C`), None for a rest; `duration` is in whole notes; `tie` says that a tie is
    written after it (old hands also slur with it, so it joins only to a next note of the same pitch); `stacked` that
    it sounds with the note before and takes no time of its own (a chord's further notes, a voice overlay).

    Two notes are equal when these are. The rest says where it stands: `onset` is the time from the start of its bar;
    `place` the staff place in letters above middle C and `alter` the semitones (see `musician.music.abc.pitch`);
    `start`, `pitch_end` and `end` span the text of accidental, letter and octave, and of the length after them.
    """

    midi: int | None
    duration: Fraction
    tie: bool = False
    stacked: bool = False
    onset: Fraction = field(default=ZERO, compare=False)
    place: int = field(default=0, compare=False)
    alter: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)
    pitch_end: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Bar:
    """The music of one voice between two bar lines.

    `text` is as written; `notes` hold no grace notes, `graces` them alone (their durations take no time, their onset is
    that of the note they stand before); `duration` is that of the longest overlay. `barline` is the line that closes
    it (`|` for an invisible `[|]`), `opening` all lines since the bar before, parted by blanks (empty at the ends of
    the tune); `ending` the number of a volta that starts here; `part` what a `P:` field put in force; `meter`, `key`
    and `unit` those in force where it closes; `start` and `end` its span in the tune's text; `jumps` its signs of where
    to go on (`segno`, `fine`, `D.C.`, `D.S.`); `tempos` the onsets and quarter notes a minute of the `Q:` fields in it.
    """

    text: str
    notes: tuple[Note, ...]
    duration: Fraction
    opening: str
    barline: str
    ending: str
    meter: Meter | None
    key: Key
    unit: Fraction
    voice: str = ""
    part: str = ""
    graces: tuple[Note, ...] = ()
    start: int = 0
    end: int = 0
    jumps: tuple[str, ...] = ()
    tempos: tuple[tuple[Fraction, Fraction], ...] = ()


@dataclass(frozen=True)
class Tune:
    """One tune.

    `text` is the tune as written, from its first field to the end of its music; all positions count from its start.
    `fields` are the header's lines as (letter, value) in order, comments stripped; `elements` everything written but
    notes and what has no bearing on them, header fields included; `bars` those of all voices in the order they end;
    `meter` (None: free), `unit` (in whole notes) and `key` those in force where the body begins, at `body_start`.
    """

    text: str
    fields: tuple[tuple[str, str], ...]
    elements: tuple[Element, ...]
    bars: tuple[Bar, ...]
    meter: Meter | None
    unit: Fraction
    key: Key
    body_start: int

    def field(self, name: str, default: str = "") -> str:
        """Return the value of the first header field of that letter."""
        return next((value for letter, value in self.fields if letter == name), default)

    @property
    def body(self) -> str:
        """The text below the header, without empty lines; lines end with `\\n`."""
        spans = lines(self.text, self.body_start, len(self.text))
        return "\n".join(line for start, end in spans if (line := self.text[start:end]).strip())

    @property
    def notes(self) -> Iterator[Note]:
        """All notes and rests but grace notes, bar by bar."""
        return (note for bar in self.bars for note in bar.notes)

    @property
    def voices(self) -> dict[str, list[Bar]]:
        """The bars of each voice that has any, voices in the order of their first bars."""
        found: dict[str, list[Bar]] = {}
        for bar in self.bars:
            found.setdefault(bar.voice, []).append(bar)
        return found
