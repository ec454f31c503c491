"""Writing ABC: notes under a key signature, bars, and short pieces made at random."""

import random
from collections.abc import Sequence
from fractions import Fraction

from musician.music.abc.key import Key
from musician.music.abc.lexer import write_length
from musician.music.abc.meter import Meter
from musician.music.abc.pitch import ACCIDENTALS, LETTERS, Pitch
from musician.music.theory.draws import split_time

EIGHTH = Fraction(1, 8)
LOWEST, HIGHEST = -2, 13
VALUES = {
    1: (Fraction(1, 8), Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)),
    2: (Fraction(1, 8), Fraction(1, 8), Fraction(1, 4), Fraction(3, 8), Fraction(1, 2)),
    3: (Fraction(1, 16), Fraction(1, 8), Fraction(1, 8), Fraction(3, 16), Fraction(1, 4), Fraction(3, 8)),
}
"""Note values in use at a difficulty, as shares of a whole note; repeated ones come more often."""
METERS = ("2/4", "3/4", "4/4", "2/2", "3/8", "6/8", "9/8", "12/8", "3/2", "5/4", "6/4", "5/8", "7/8")
NOTE_VALUES = {
    Fraction(1, 16): "a sixteenth note",
    Fraction(1, 8): "an eighth note",
    Fraction(3, 16): "a dotted eighth note",
    Fraction(1, 4): "a quarter note",
    Fraction(3, 8): "a dotted quarter note",
    Fraction(1, 2): "a half note",
    Fraction(3, 4): "a dotted half note",
}
UNITS = {1: (EIGHTH,), 2: (EIGHTH, Fraction(1, 4)), 3: (Fraction(1, 16), EIGHTH, Fraction(1, 4))}

Event = tuple[Pitch | None, Fraction]
"""A note, or a rest where there is no pitch, and its duration in whole notes."""


def write_pitches(pitches: Sequence[Pitch | None], key: Key) -> list[str]:
    """Write the notes and rests of one bar, accidentals where the signature does not give them.

    A letter that once carried an accidental carries one to the end of the bar, so that it does not matter whether
    accidentals hold for one octave or for all.
    """
    marked: set[str] = set()
    written = []
    for pitch in pitches:
        if pitch is None:
            written.append("z")
            continue
        if pitch.alter != key.alterations.get(pitch.letter, 0):
            marked.add(pitch.letter)
        written.append((ACCIDENTALS[pitch.alter] if pitch.letter in marked else "") + pitch.abc_letter)
    return written


def write_bar(events: Sequence[Event], key: Key, unit: Fraction) -> str:
    """Write one bar without its bar lines."""
    heads = write_pitches([pitch for pitch, _ in events], key)
    return " ".join(head + write_length(time / unit) for head, (_, time) in zip(heads, events, strict=True))


def write_chord(pitches: Sequence[Pitch], key: Key) -> str:
    """Write a chord of unit length: `[CEG]`."""
    return f"[{''.join(write_pitches(pitches, key))}]"


def sheet(bars: Sequence[str], key: Key, unit: Fraction = EIGHTH, meter: Meter | None = None) -> str:
    """Return fields and bars, as much as it takes to read the music."""
    shown = f"M:{meter}\n" if meter else ""
    return f"{shown}L:{unit}\nK:{key.abc}\n| {' | '.join(bars)} |"


def melody(times: Sequence[Fraction], key: Key, rng: random.Random) -> list[Event]:
    """Return notes of the key, one for each duration: a walk mostly by step."""
    place = rng.randrange(2, 10)
    events: list[Event] = []
    for time in times:
        place = min(HIGHEST, max(LOWEST, place + rng.choice((-4, -2, -1, -1, 1, 1, 2, 3))))
        events.append((Pitch(place, key.alterations.get(LETTERS[place % 7], 0)), time))
    return events


def random_bars(count: int, key: Key, meter: Meter, difficulty: int, rng: random.Random) -> list[list[Event]]:
    """Return full bars of notes of the key."""
    return [melody(split_time(meter.duration, VALUES[difficulty], rng), key, rng) for _ in range(count)]


def excerpt(key: Key, difficulty: int, rng: random.Random) -> str:
    """Return a bar or two in common time under the key's signature."""
    unit = rng.choice(UNITS[difficulty])
    bars = random_bars(rng.choice((1, 2)), key, Meter(4, 4), difficulty, rng)
    return sheet([write_bar(bar, key, unit) for bar in bars], key, unit, Meter(4, 4))
