"""Tasks in which a tune is changed: another key, another unit length, a planted error put right, chords added."""

from __future__ import annotations

import random
import re
from fractions import Fraction

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars
from musician.music.edit.rewrite import set_unit, strip
from musician.music.edit.spans import Edit, apply
from musician.music.edit.transpose import transpose
from musician.music.tasks import wordings
from musician.music.tasks.writing import chord_symbols
from musician.music.tasks.written import tidy
from musician.music.theory.chord import chord_of
from musician.runtime.errors import UserError

TONICS = ("C", "D", "Eb", "E", "F", "G", "Ab", "A", "Bb")
UNITS = (Fraction(1, 4), Fraction(1, 8), Fraction(1, 16))
_FEWEST_BARS = 4
_FEWEST_CHORDS = 4
_BEFORE_NOTE = re.compile(r'(?:[(\[.~H-Wh-w]|![^!\s]*!|\+[^+\s]*\+|"[^"\n]*")*\Z')
"""Slurs, decorations, annotations and the bracket of a chord, up to the note they belong to."""
_LONGEST_PREFIX = 200

#: The primary triads in major and in minor, the preferred first.
_TRIADS = {"major": ("I", "V", "IV"), "minor": ("i", "V", "iv")}


def transposed(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the tune in another key of the same mode."""
    found = to_another_key(tune, rng)
    return found and (f"{rng.choice(wordings.TRANSPOSITION).format(key=found[0])}\n{tidy(tune)}", found[1])


def to_another_key(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Return the name of a key drawn at random, and the tidy tune in it."""
    source = parse_tune(tidy(tune))
    if not source.key.plain:
        return None
    for tonic in rng.sample([tonic for tonic in TONICS if tonic != source.key.tonic], len(TONICS) - 1)[:3]:
        try:
            moved = transpose(source, tonic)
        except UserError:
            continue
        return parse_tune(moved).key.name, moved
    return None


def unit_changed(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the same music with another unit note length."""
    source = parse_tune(tidy(tune))
    unit = rng.choice([unit for unit in UNITS if unit != source.unit])
    try:
        written = set_unit(source, unit)
    except UserError:
        return None
    return f"{rng.choice(wordings.UNIT).format(unit=unit)}\n{source.text}", written


def repaired(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the one bar that does not add up, after a note of a full bar was written twice as long.

    Only for a tune of one voice whose bars all add up, so that there is one answer. Bars count from 1 as written.
    """
    source = parse_tune(tidy(tune))
    bars = source.bars
    whole = [bar for bar in bars if bar.meter and bar.duration == bar.meter.duration]
    if len(source.voices) != 1 or len(bars) < _FEWEST_BARS or not whole or check_bars(source):
        return None
    place = rng.randrange(1, len(bars) - 1)
    bar = bars[place]
    notes = [note for note in bar.notes if note.midi is not None and source.text[note.pitch_end : note.end] == ""]
    if bar not in whole or not notes:
        return None
    note = rng.choice(notes)
    wrong = apply(source.text, [Edit(note.pitch_end, note.end, "2")])
    broken = parse_tune(wrong).bars[place]
    if broken.duration <= bar.duration:
        return None
    answer = f"Bar {place + 1} lasts {broken.duration} instead of {bar.duration}. It should read: {bar.text}"
    return f"{rng.choice(wordings.REPAIR)}\n{wrong}", answer


def harmonised(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for chords to a melody; only for a tune that has its own."""
    source = parse_tune(tidy(tune))
    if len(chord_symbols(source)) < _FEWEST_CHORDS:
        return None
    return f"{rng.choice(wordings.HARMONISATION)}\n{strip(source, 'chords')}", source.text


def harmonised_by_rule(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for one primary triad a bar, by a rule that the prompt states; only where a tune has no chords of its own."""
    source = parse_tune(tidy(tune))
    if chord_symbols(source) or source.key.mode not in _TRIADS or not source.key.plain or len(source.voices) != 1:
        return None
    if any(element.kind == "field" and element.start >= source.body_start for element in source.elements):
        return None
    starts = [source.body_start, *(bar.end for bar in source.bars)]
    places = [_chord_place(source, bar, start) for start, bar in zip(starts, source.bars, strict=False)]
    chords = [f'"{primary_triad(source, bar)}"' for bar in source.bars]
    edits = [Edit(place, place, chord) for place, chord in zip(places, chords, strict=True)]
    return f"{rng.choice(wordings.RULE_HARMONISATION)}\n{source.text}", apply(source.text, edits)


def _chord_place(tune: Tune, bar: Bar, start: int) -> int:
    """Return where a bar's first chord symbol goes: behind grace notes, before slur and decorations (standard 4.20)."""
    first = min(note.start for note in bar.notes)
    found = _BEFORE_NOTE.search(tune.text, max(start, first - _LONGEST_PREFIX), first)
    assert found is not None
    return found.start()


def primary_triad(tune: Tune, bar: Bar) -> str:
    """Return the primary triad that holds most of a bar's sounding time: I before V before IV where alike."""
    held = []
    for numeral in _TRIADS[tune.key.mode]:
        chord = chord_of(tune.key, numeral)
        inside = {pitch.midi % 12 for pitch in chord.notes}
        time = sum(note.duration for note in bar.notes if note.midi is not None and note.midi % 12 in inside)
        held.append((time, chord.root.name + ("m" if chord.kind == "minor" else "")))
    return max(held, key=lambda each: each[0])[1]
