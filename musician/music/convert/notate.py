"""Notes in written time as ABC: voices, bars that add up, ties over bar lines, tuplets, chords, spelling by key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from musician.music.abc.key import Key
from musician.music.abc.lexer import write_length
from musician.music.abc.pitch import ACCIDENTALS, LETTERS, SHARP_ORDER, Pitch
from musician.music.convert.beats import ScoreNote
from musician.music.convert.induction import Bars
from musician.music.theory.notation import write_pitches

_UNITS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 16))
_TIME_OF = {3: 2, 5: 4, 7: 4, 9: 8}
_MOST_IN_TUPLET = 9
_PLAIN = (1, 3, 7)
"""Odd parts of the numerators of single notes: plain, dotted, double dotted."""
_BARS_A_LINE = 4


class _Event(NamedTuple):
    """What sounds together in one voice, nothing for a rest: onset and duration in whole notes, tied on or not."""

    onset: Fraction
    duration: Fraction
    pitches: tuple[Pitch, ...] = ()
    tied: bool = False


def notate(notes: Sequence[ScoreNote], bars: Bars, key: Key, header: Sequence[str] = ()) -> str:
    """Return a tune of the notes; `header` are fields, such as `T:`, that come below `X:1`.

    The first bar begins with the first note; the last is filled with rests unless it completes a pick-up.
    """
    grid = _Grid(notes, bars)
    voices = [_filled(voice, grid, key) for voice in _voices(notes)]
    unit = min(_UNITS, key=lambda each: _size(voices, each))
    lines = ["X:1", *header, f"M:{bars.meter}", f"L:{unit}", f"K:{key.abc}"]
    for number, voice in enumerate(voices, 1):
        if len(voices) > 1:
            lines.append(f"V:{number}")
        lines += _lines([_written_bar(bar, end, grid.beat, unit, key) for end, bar in grid.cut(voice)])
    return "\n".join(lines)


class _Grid:
    """Bar lines in whole notes: where the music starts and ends, and how it is cut."""

    def __init__(self, notes: Sequence[ScoreNote], bars: Bars):
        self.length, self.line = bars.meter.duration, bars.pickup / 4
        self.beat = Fraction(3, bars.meter.unit) if bars.meter.compound else Fraction(1, min(bars.meter.unit, 4))
        self.start = min(note.onset for note in notes) / 4
        end = max(note.onset + note.duration for note in notes) / 4
        completes = (end - self.start) % self.length == 0
        self.end = end if completes else self.after(end - Fraction(1, 10**6))

    def after(self, place: Fraction) -> Fraction:
        """Return the first bar line later than a place."""
        return self.line + (math.floor((place - self.line) / self.length) + 1) * self.length

    def cut(self, events: Sequence[_Event]) -> Iterator[tuple[Fraction, list[_Event]]]:
        """Yield each bar's closing line and its events, those that cross bar lines parted and tied."""
        end = self.after(self.start)
        bar: list[_Event] = []
        for event in events:
            while event.onset + event.duration > end:
                if event.onset < end:
                    head = end - event.onset
                    bar.append(event._replace(duration=head, tied=True))
                    event = event._replace(onset=end, duration=event.duration - head)
                yield end, bar
                end, bar = end + self.length, []
            bar.append(event)
        yield end, bar


# --- voices ----------------------------------------------------------------------------------------------------------


def _voices(notes: Sequence[ScoreNote]) -> list[list[list[ScoreNote]]]:
    """Return voices of chords, which do not overlap: parts apart, in one each to the free voice nearest in pitch."""
    found: list[list[list[ScoreNote]]] = []
    for _, part in groupby(sorted(notes, key=lambda note: note.part), key=lambda note: note.part):
        voices: list[list[list[ScoreNote]]] = []
        for chord in _chords(list(part)):
            free = [voice for voice in voices if _end(voice[-1]) <= chord[0].onset]
            if not free:
                free = [[]]
                voices += free
            min(free, key=lambda voice: abs(voice[-1][-1].midi - chord[-1].midi) if voice else 0).append(chord)
        found += voices
    return found


def _chords(notes: Sequence[ScoreNote]) -> list[list[ScoreNote]]:
    """Return the notes that begin and end together, by onset, high ones first; the same note twice counts once."""
    ordered = sorted(set(notes), key=lambda note: (note.onset, note.duration, note.midi))
    chords = [list(group) for _, group in groupby(ordered, key=lambda note: (note.onset, note.duration))]
    return sorted(chords, key=lambda chord: (chord[0].onset, -chord[-1].midi))


def _end(chord: Sequence[ScoreNote]) -> Fraction:
    return chord[0].onset + chord[0].duration


def _filled(voice: Sequence[Sequence[ScoreNote]], grid: _Grid, key: Key) -> list[_Event]:
    """Return the voice from start to end, rests between its chords."""
    events, now = [], grid.start
    for chord in voice:
        onset = chord[0].onset / 4
        if onset > now:
            events.append(_Event(now, onset - now))
        pitches = tuple(spelled(note.midi, key) for note in chord)
        events.append(_Event(onset, chord[0].duration / 4, pitches))
        now = onset + chord[0].duration / 4
    return [*events, _Event(now, grid.end - now)] if grid.end > now else events


def spelled(midi: int, key: Key) -> Pitch:
    """Return a note as the key has it; notes of no key on the line of fifths from the tonic's minor third up."""
    fifths = next(each for each in range(key.sharps - 3, key.sharps + 9) if (7 * each - midi) % 12 == 0)
    letter, alter = SHARP_ORDER[(fifths + 1) % 7], (fifths + 1) // 7
    return Pitch(7 * ((midi - alter - 60) // 12) + LETTERS.index(letter), alter)


# --- writing ---------------------------------------------------------------------------------------------------------


def _size(voices: Sequence[Sequence[_Event]], unit: Fraction) -> int:
    return sum(len(str(event.duration / unit)) for voice in voices for event in voice if event.duration != unit)


def _lines(bars: Sequence[str]) -> list[str]:
    closed = [f"{bar} |" for bar in bars[:-1]] + [f"{bars[-1]} |]"]
    return [" ".join(closed[place : place + _BARS_A_LINE]) for place in range(0, len(closed), _BARS_A_LINE)]


def _written_bar(bar: Sequence[_Event], end: Fraction, beat: Fraction, unit: Fraction, key: Key) -> str:
    """Return a bar without its line; notes of one beat stand together."""
    heads = iter(_heads(bar, key))
    written = ""
    for group in _groups(bar, end):
        if (group[0].onset - end) % beat == 0 or not group[0].pitches:
            written += " "
        written += _written_group(group, unit, heads)
        if not group[-1].pitches:
            written += " "
    return " ".join(written.split())


def _heads(bar: Sequence[_Event], key: Key) -> list[tuple[str, str]]:
    """Return each event's pitches twice: as written first, and as written again in the bar after a tie."""
    flat: list[Pitch | None] = [pitch for event in bar for pitch in event.pitches or (None,)]
    signs = iter(write_pitches(flat, key))
    found = []
    for event in bar:
        every = [next(signs) for _ in event.pitches or (None,)]
        again = [sign.lstrip("^_=") for sign in every]
        if len({pitch.place for pitch in event.pitches}) < len(event.pitches):
            every = again = [ACCIDENTALS[pitch.alter] + pitch.abc_letter for pitch in event.pitches]
        found.append((_stacked(every), _stacked(again)))
    return found


def _stacked(heads: Sequence[str]) -> str:
    return f"[{''.join(heads)}]" if len(heads) > 1 else heads[0]


def _groups(bar: Sequence[_Event], end: Fraction) -> Iterator[list[_Event]]:
    """Yield events one by one, or those of a tuplet together: up to where the time since is one of halves again."""
    group: list[_Event] = []
    for event in bar:
        group.append(event)
        if _odd(event.onset + event.duration - end) == 1:
            yield group
            group = []
    if group:
        yield group


def _odd(time: Fraction) -> int:
    """Return the odd part of a time's denominator: 3 among triplets."""
    below = time.denominator
    return below // (below & -below)


def _written_group(group: Sequence[_Event], unit: Fraction, heads: Iterator[tuple[str, str]]) -> str:
    """Return the events, under a tuplet's sign where one holds them."""
    count = math.lcm(*(_odd(event.duration) for event in group))
    scale = Fraction(count, _TIME_OF[count]) if count in _TIME_OF else Fraction(1)
    pieces = [_single_notes(event.duration * scale) for event in group]
    notes = sum(map(len, pieces))
    opening = f"({count}:{_TIME_OF[count]}:{notes}" if count in _TIME_OF else ""
    if opening == "(3:2:3":
        opening = "(3"
    if notes > _MOST_IN_TUPLET:
        pieces, opening = [[event.duration] for event in group], ""
    written = (_written(event, each, unit, next(heads)) for event, each in zip(group, pieces, strict=True))
    return opening + "".join(written)


def _single_notes(time: Fraction) -> list[Fraction]:
    """Return lengths that single notes have and that make up a time; a time not of halves stays as it is."""
    found = []
    while time and _odd(time) == 1:
        above = time.numerator
        if above // (above & -above) in _PLAIN:
            break
        longest = Fraction(2 ** (above.bit_length() - 1), time.denominator)
        found.append(longest)
        time -= longest
    return [*found, time] if time else found


def _written(event: _Event, pieces: Sequence[Fraction], unit: Fraction, heads: tuple[str, str]) -> str:
    first, again = heads
    tie = "-" if event.pitches else ""
    last = tie if event.tied else ""
    return "".join(
        (again if place else first) + write_length(piece / unit) + (tie if place + 1 < len(pieces) else last)
        for place, piece in enumerate(pieces)
    )
