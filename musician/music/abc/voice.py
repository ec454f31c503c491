"""One voice while it is read: what is in force for it, and the bar it is in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain
from typing import NamedTuple

from musician.music.abc.elements import ZERO, Bar, Note
from musician.music.abc.key import Key
from musician.music.abc.meter import Meter, number
from musician.music.abc.pitch import ALTERATIONS, Pitch, staff_place

_TIME_OF = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
_LONGEST_OPENING = 8
_ONE = Fraction(1)


class Head(NamedTuple):
    """A note head as read: what `musician.music.abc.elements.Note` has but for what the rest of the bar decides."""

    midi: int | None
    duration: Fraction
    tie: bool
    place: int
    alter: int
    start: int
    pitch_end: int
    end: int


@dataclass(slots=True)
class _Event:
    """Heads that sound together, the time they take, and what a sign after them did: broken rhythm, a separate tie."""

    time: Fraction
    heads: Sequence[Head]
    scale: Fraction | None = None
    tied: bool = False


class Voice:
    """Reads events into bars.

    `pitch` and `timed` apply what is in force (key, accidentals of the bar, ties; unit length, tuplets, broken rhythm),
    `add` puts an event into the bar, `close` ends the bar. `propagate` is where an accidental holds to the end of its
    bar: `pitch` (all octaves, the standard's default), `octave`, or `not`.
    """

    def __init__(self, name: str, key: Key, meter: Meter | None, unit: Fraction, propagate: str = "pitch"):
        self.name, self.key, self.meter, self.unit, self.propagate = name, key, meter, unit, propagate
        self.octave = 0
        self.part = self.opening = self.ending = ""
        self.jumps: list[str] = []
        self.in_grace = False
        self.ties: dict[int, tuple[int | None, int]] = {}
        self._tuplet, self._tuplet_left = _ONE, 0
        self._lengthen: Fraction | None = None
        self._accidentals: dict[object, int] = {}
        self._clear()

    def _clear(self) -> None:
        self.pieces: list[str] = []
        self.span: tuple[int, int] | None = None
        self._events: list[_Event] = []
        self._layers: list[list[_Event]] = [self._events]
        self._graces: list[tuple[list[_Event], int, Head]] = []
        self._tempos: list[tuple[list[_Event], int, Fraction]] = []

    @property
    def begun(self) -> bool:
        """Whether the bar holds an event."""
        return bool(self._events) or len(self._layers) > 1

    def see(self, start: int, end: int) -> None:
        """Stretch the bar's span over a note or rest."""
        self.span = (self.span[0] if self.span else start, end)

    def pitch(self, accidental: str | None, letter: str, marks: str) -> tuple[int | None, int, int]:
        """Return MIDI number, staff place and alteration of a written note."""
        name = letter.upper()
        if self.octave:
            marks += "'" * self.octave if self.octave > 0 else "," * -self.octave
        place = staff_place(letter, marks[:20])
        scope: object = place if self.propagate == "octave" else name
        if accidental:
            alter = ALTERATIONS[accidental]
            if self.propagate != "not":
                self._accidentals[scope] = alter
        elif place in self.ties:
            midi, alter = self.ties[place]
            return midi, place, alter
        elif self._accidentals and scope in self._accidentals:
            alter = self._accidentals[scope]
        else:
            alter = self.key.alterations.get(name, 0)
        return max(0, min(127, Pitch(place, alter).midi)), place, alter

    def timed(self, time: Fraction) -> Fraction:
        """Return the length in whole notes of a multiple of the unit, a running tuplet and broken rhythm applied."""
        time *= self.unit
        if self._tuplet_left:
            time *= self._tuplet
            self._tuplet_left -= 1
        if self._lengthen is not None:
            time *= self._lengthen
            self._lengthen = None
        return time

    def add(self, time: Fraction, heads: Sequence[Head]) -> None:
        """Put heads that sound together into the bar; they take `time`, and their ties hold to the next event."""
        self._events.append(_Event(time, heads))
        self.ties = {head.place: (head.midi, head.alter) for head in heads if head.tie}

    def add_grace(self, head: Head) -> None:
        """Put a grace note into the bar; it takes no time."""
        self._graces.append((self._events, len(self._events), head))

    def change_tempo(self, quarters_a_minute: Fraction) -> None:
        """Note a tempo that holds from here on."""
        self._tempos.append((self._events, len(self._events), quarters_a_minute))

    def overlay(self) -> None:
        """Go back to the start of the bar (`&`): what follows sounds with what stands there."""
        self._events = []
        self._layers.append(self._events)
        self._accidentals, self.ties = {}, {}

    def set_tuplet(self, text: str) -> bool:
        """Read `p:q:r`: p notes in the time of q, for the next r; q and r default as in the standard. False if odd."""
        count, given, notes = [number(part, 99) if part else 0 for part in text.split(":")] + [0] * (
            2 - text.count(":")
        )
        if not 2 <= count <= 9:
            return False
        time = given or _TIME_OF.get(count, 3 if self.meter and self.meter.compound else 2)
        self._tuplet, self._tuplet_left = Fraction(min(time, 16), count), notes or count
        return True

    def set_broken(self, text: str) -> bool:
        """Move time between the event before and the one after: `>` halves the latter, `<` the former."""
        if not self._events:
            return False
        short = Fraction(1, 2 ** min(len(text), 3))
        before, self._lengthen = (2 - short, short) if text[0] == ">" else (short, 2 - short)
        event = self._events[-1]
        event.time *= before
        event.scale = before if event.scale is None else event.scale * before
        return True

    def set_tie(self) -> None:
        """Read a tie set apart from its note: `A -A`."""
        if self._events:
            event = self._events[-1]
            event.tied = True
            self.ties = {head.place: (head.midi, head.alter) for head in event.heads if head.midi is not None}

    def close(self, barline: str, ending: str) -> Bar | None:
        """End the bar; an empty bar is none: its lines join those of its neighbours, a blank between them.

        Accidentals end with it, unless it is no bar line that ends it but an ending that begins within the bar.
        """
        if barline:
            self._accidentals = {}
        bar = None
        if any(self._layers):
            bar = self._bar(barline)
            self.opening, self.ending, self.jumps = barline, ending, []
        else:
            self.opening = f"{self.opening} {barline}".strip()[-_LONGEST_OPENING:]
            self.ending = ending or self.ending
        tempos = [] if bar else self._tempos
        self._clear()
        self._tempos += [(self._events, 0, tempo) for _, _, tempo in tempos]
        return bar

    def _bar(self, barline: str) -> Bar:
        text = " ".join(part for piece in self.pieces if (part := piece.strip().rstrip("\\").rstrip()))
        laid = [_laid_out(events, overlaid=place > 0) for place, events in enumerate(self._layers)]
        notes = tuple(chain.from_iterable(layer for layer, _ in laid))
        duration = max(time for _, time in laid)
        ends = (self.opening, barline, self.ending, self.meter, self.key, self.unit)
        asked = self._layers if self._graces or self._tempos else ()
        times = {id(layer): list(accumulate((each.time for each in layer), initial=ZERO)) for layer in asked}
        graces = [_note(each, each.duration, times[id(at)][count], each.tie, False) for at, count, each in self._graces]
        tempos = [(times[id(at)][count], tempo) for at, count, tempo in self._tempos]
        span, jumps = self.span or (0, 0), tuple(self.jumps)
        return Bar(text, notes, duration, *ends, self.name, self.part, tuple(graces), *span, jumps, tuple(tempos))


def _laid_out(events: Sequence[_Event], overlaid: bool) -> tuple[list[Note], Fraction]:
    """Return the notes of one layer with their onsets, and the time they take."""
    onset = ZERO
    found: list[Note] = []
    for event in events:
        stacked = overlaid
        for head in event.heads:
            duration = head.duration if event.scale is None else head.duration * event.scale
            found.append(_note(head, duration, onset, head.tie or event.tied, stacked))
            stacked = True
        onset += event.time
    return found, onset


def _note(head: Head, duration: Fraction, onset: Fraction, tie: bool, stacked: bool) -> Note:
    return Note(head.midi, duration, tie, stacked, onset, head.place, head.alter, head.start, head.pitch_end, head.end)


def octave_shift(value: str) -> int:
    """Return the octaves that a `K:` or `V:` field moves the written notes by: `octave=-1`, or a clef's `+8` or `-8`.

    A clef alone moves none (ABC standard 2.1, 4.6).
    """
    given = re.search(r"(?:^|\s)octave=([+-]?[0-9])(?![0-9])", value[:200], re.ASCII)
    marked = re.search(r"(?:^|\s|[a-z][1-5]?)([+-])8(?:va)?(?:\s|$)", value[:200], re.ASCII)
    return (int(given[1]) if given else 0) + (int(marked[1] + "1") if marked else 0)
