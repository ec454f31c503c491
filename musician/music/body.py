"""The music of a tune: from the lines below `K:` to bars of notes."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from musician.music.key import Key, alteration, parse_key
from musician.music.meter import FINEST, Meter, number, parse_meter, parse_unit

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
BODY_FIELD = re.compile(r"([H-Wh-wYy+]):(?![|:])(.*)", re.ASCII | re.DOTALL)
"""A field line among the music; the letters of notes and rests are left out, so `d:|` is music."""

_LENGTH = r"[0-9]*/*[0-9]*"
_NOTE = rf"(?:\^\^?|__?|=)?[A-Ga-g][',]*{_LENGTH}-?"
_TOKEN = re.compile(
    rf"""
      (?P<note>{_NOTE})
    | (?P<bar>\[?\|[|:\]]*|:+\|[|:\]]*|::+) (?P<number>[0-9][0-9,\-]*)?
    | (?P<rest>[zxZX]{_LENGTH})
    | (?P<skip>"[^"\n]*" | ![^!\s|]{{0,40}}! | \+[^+\s|]{{0,40}}\+ | \{{[^{{}}\n]*\}} | y[0-9]*)
    | \[(?P<field>[A-Za-z]:[^\[\]\n]*)\]
    | \[(?P<ending>[0-9][0-9,\-]*)
    | (?P<chord>\[[^\[\]|\n]*\]{_LENGTH}-?)
    | \((?P<tuplet>[0-9]+(?::[0-9]*){{0,2}})
    | (?P<broken>>+|<+)
    | (?P<tie>-)
    | (?P<overlay>&)
    """,
    re.VERBOSE | re.ASCII,
)
NOTE_PARTS = re.compile(r"(\^\^?|__?|=)?([A-Ga-g])([',]*)([0-9]*)(/*)([0-9]*)(-?)", re.ASCII)
_REST = re.compile(r"[zxZX]([0-9]*)(/*)([0-9]*)", re.ASCII)
_CHORD = re.compile(r"\[([^\]]*)\]([0-9]*)(/*)([0-9]*)(-?)", re.ASCII)
_TIME_OF = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}


class Note(NamedTuple):
    """One written note or rest.

    `midi` is 0 to 127 (60 is ABC's `C`), None for a rest; `duration` is in whole notes; `tie` says that a tie is
    written after it (old hands also slur with it, so it joins only to a next note of the same pitch); `stacked` that
    it sounds with the note before and takes no time of its own (a chord's further notes, a voice overlay).
    """

    midi: int | None
    duration: Fraction
    tie: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """The music between two bar lines.

    `text` is as written; `barline` is the line that closes it, `opening` all lines since the bar before (empty at the
    ends of the tune); `ending` the number of a volta that starts here; `meter`, `key` and `unit` those in force where
    it closes.
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


@cache
def _length(digits: str, slashes: str, divisor: str) -> Fraction:
    """Return the multiple of the unit that a note length such as `3/2` or `//` stands for."""
    below = number(divisor, FINEST) if slashes and divisor else 2 ** min(len(slashes), 7)
    return Fraction(number(digits) if digits else 1, below)


def length(digits: str, slashes: str, divisor: str) -> Fraction:
    """As `_length`, remembering the answer for all but freakish spellings."""
    return (_length if len(digits) + len(slashes) + len(divisor) < 5 else _length.__wrapped__)(digits, slashes, divisor)


class BodyReader:
    """Reads body lines, keeping what is in force: key, meter, unit length, accidentals, ties, tuplets."""

    def __init__(self, key: Key, meter: Meter | None, unit: Fraction):
        self.key, self.meter, self.unit = key, meter, unit
        self.bars: list[Bar] = []
        self._known: dict[tuple[int | None, Fraction, bool, bool], Note] = {}
        self._ties: dict[tuple[str, int], int] = {}
        self._tuplet, self._tuplet_left = Fraction(1), 0
        self._lengthen: Fraction | None = None
        self._opening = self._ending = ""
        self._clear()

    def read(self, lines: Iterable[str]) -> tuple[Bar, ...]:
        """Return the bars of the lines; the last may be unclosed."""
        for line in lines:
            found = BODY_FIELD.match(line)
            if found:
                self._apply(found[1], found[2])
            else:
                self._scan(line.partition("%")[0])
        self._close("", "")
        return tuple(self.bars)

    def _clear(self) -> None:
        self._notes: list[Note] = []
        self._text: list[str] = []
        self._accidentals: dict[str, int] = {}
        self._overlay = False
        self._last = 0

    def _scan(self, line: str) -> None:
        """Read one line of music; what is no token has no effect."""
        start = 0
        for found in _TOKEN.finditer(line):
            kind = found.lastgroup
            if kind in ("bar", "number"):
                self._text.append(line[start : found.start()])
                self._close(found["bar"], found["number"] or "")
                start = found.end()
            elif kind != "skip" and kind is not None:
                _HANDLERS[kind](self, found[kind])
        self._text.append(line[start:])

    def _close(self, barline: str, ending: str) -> None:
        """End the bar at a bar line; an empty bar is none: its lines join those of its neighbours."""
        text = " ".join(part for piece in self._text if (part := piece.strip().rstrip("\\").rstrip()))
        if self._notes:
            time = sum((note.duration for note in self._notes if not note.stacked), Fraction(0))
            ends = (self._opening, barline, self._ending)
            self.bars.append(Bar(text, tuple(self._notes), time, *ends, self.meter, self.key, self.unit))
            self._opening, self._ending = barline, ending
        else:
            self._opening = (self._opening + barline)[-8:]
            self._ending = ending or self._ending
        self._clear()

    def _apply(self, name: str, value: str) -> None:
        """Put a body or inline field into force."""
        if name == "K":
            self.key = parse_key(value, self.key)
        elif name == "M":
            self.meter = parse_meter(value)
        elif name == "L":
            self.unit = parse_unit(value) or self.unit
        elif name == "V":
            self._close("", "")

    def _field(self, text: str) -> None:
        self._apply(text[0], text[2:])

    def _note(self, text: str) -> None:
        found = NOTE_PARTS.match(text)
        assert found is not None
        midi, place = self._pitch(found[1], found[2], found[3])
        self._ties = {place: midi} if found[7] else {}
        self._add([midi], self._timed(length(found[4], found[5], found[6])), bool(found[7]))

    def _rest(self, text: str) -> None:
        found = _REST.match(text)
        assert found is not None
        self._ties = {}
        time = length(*found.groups())
        if text[0] in "ZX":
            self._add([None], time * (self.meter.duration if self.meter else 1), False)
        else:
            self._add([None], self._timed(time), False)

    def _chord(self, text: str) -> None:
        """Read a chord: it lasts as long as its first note, times the length after the bracket."""
        whole = _CHORD.match(text)
        assert whole is not None
        heads = list(NOTE_PARTS.finditer(re.sub('"[^"]*"|![^!]*!', "", whole[1])))
        if not heads:
            return
        pitches = [self._pitch(head[1], head[2], head[3]) for head in heads]
        tie = bool(whole[5])
        self._ties = {place: midi for (midi, place), head in zip(pitches, heads, strict=True) if tie or head[7]}
        time = length(heads[0][4], heads[0][5], heads[0][6]) * length(whole[2], whole[3], whole[4])
        self._add([midi for midi, _ in pitches], self._timed(time), bool(self._ties))

    def _pitch(self, accidental: str | None, letter: str, marks: str) -> tuple[int, tuple[str, int]]:
        """Return the MIDI number and the written place; accidentals hold for the letter until the bar line."""
        name = letter.upper()
        octave = 5 + (letter != name) + marks.count("'") - marks.count(",")
        place = (name, octave)
        if accidental:
            self._accidentals[name] = alteration(accidental)
        elif place in self._ties:
            return self._ties[place], place
        altered = self._accidentals.get(name, self.key.alterations.get(name, 0))
        return max(0, min(127, 12 * octave + SEMITONES[name] + altered)), place

    def _timed(self, time: Fraction) -> Fraction:
        """Apply the unit length, a running tuplet and a broken rhythm to a written length."""
        time *= self.unit
        if self._tuplet_left:
            time *= self._tuplet
            self._tuplet_left -= 1
        if self._lengthen is not None:
            time *= self._lengthen
            self._lengthen = None
        return time

    def _add(self, pitches: Sequence[int | None], time: Fraction, tie: bool) -> None:
        self._last = len(self._notes)
        for place, midi in enumerate(pitches):
            parts = (midi, time, tie, self._overlay or place > 0)
            self._notes.append(self._known.setdefault(parts, Note(*parts)))

    def _set_tuplet(self, text: str) -> None:
        """Read `p:q:r`: p notes in the time of q, for the next r; q and r default as in the standard."""
        numbers = [number(part, 99) if part else 0 for part in text.split(":")] + [0, 0]
        count = numbers[0]
        if not 2 <= count <= 9:
            return
        time = numbers[1] or _TIME_OF.get(count, 3 if self.meter and self.meter.compound else 2)
        self._tuplet, self._tuplet_left = Fraction(min(time, 16), count), numbers[2] or count

    def _broken(self, text: str) -> None:
        """Move time between the note before and the note after: `>` halves the latter, `<` the former."""
        short = Fraction(1, 2 ** min(len(text), 3))
        before, self._lengthen = (2 - short, short) if text[0] == ">" else (short, 2 - short)
        for place in range(self._last, len(self._notes)):
            note = self._notes[place]
            self._notes[place] = note._replace(duration=note.duration * before)

    def _tie(self, _: str) -> None:
        """Read a tie set apart from its note: `A -A`."""
        for place in range(self._last, len(self._notes)):
            self._notes[place] = self._notes[place]._replace(tie=True)

    def _start_overlay(self, _: str) -> None:
        self._overlay = bool(self._notes)
        self._accidentals = {}

    def _start_ending(self, text: str) -> None:
        self._ending = text


_HANDLERS: dict[str, Callable[[BodyReader, str], None]] = {
    "note": BodyReader._note,
    "rest": BodyReader._rest,
    "chord": BodyReader._chord,
    "field": BodyReader._field,
    "ending": BodyReader._start_ending,
    "tuplet": BodyReader._set_tuplet,
    "broken": BodyReader._broken,
    "tie": BodyReader._tie,
    "overlay": BodyReader._start_overlay,
}
