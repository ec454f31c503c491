"""Triads and seventh chords: quality, inversion, root, spelling."""

import random
from collections.abc import Sequence
from itertools import product

from musician.music.abc.key import Key
from musician.music.abc.pitch import Pitch
from musician.music.theory.chord import INVERSIONS, KINDS, SEVENTHS, TRIADS, Chord, random_chord, spellable
from musician.music.theory.draws import Draft, drawn, some
from musician.music.theory.notation import UNITS, sheet, write_chord, write_pitches
from musician.music.theory.scale import random_key


def triad_quality(rng: random.Random, difficulty: int) -> Draft:
    """Ask for a triad's quality, from difficulty 2 on in any position."""
    return _quality(rng, difficulty, tuple(TRIADS), "triad")


def seventh_quality(rng: random.Random, difficulty: int) -> Draft:
    """Ask for a seventh chord's quality, from difficulty 2 on in any position."""
    return _quality(rng, difficulty, tuple(SEVENTHS)[: 3 + difficulty], "seventh chord")


def triad_inversion(rng: random.Random, difficulty: int) -> Draft:
    """Ask which triad in which position some notes form; two of root, kind and position are put in doubt.

    A draw that puts more or fewer in doubt is in vain.
    """
    kinds = ("major", "minor") if difficulty == 1 else tuple(TRIADS)[: 1 + difficulty]
    chord = random_chord(rng, difficulty, kinds)
    roots, kinds_shown = {chord.root: 0, rng.choice(chord.notes): 0}, {chord.kind: 0, rng.choice(kinds): 0}
    every = [Chord(*parts) for parts in product(roots, kinds_shown, sorted({chord.inversion, rng.randrange(3)}))]
    right = _in_position(chord)
    stem = f"Which triad, and in which position, do {_shown(chord, difficulty, rng)}"
    return Draft(stem, right, some(map(_in_position, every), right) if len(every) == 4 else ())


def seventh_inversion(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the position of a seventh chord."""
    chord = random_chord(rng, difficulty, tuple(SEVENTHS)[: 3 + difficulty])
    right = INVERSIONS[chord.inversion]
    stem = f"In which position is the seventh chord that {_shown(chord, difficulty, rng)}"
    return Draft(stem, right, some(INVERSIONS, right))


def chord_spelling(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the notes of a chord, as names or in ABC; the wrong options are other chords or misspelled."""
    kinds = tuple(TRIADS) if difficulty == 1 else tuple(KINDS)[: 3 + 3 * difficulty]
    chord = random_chord(rng, difficulty, kinds, inverted=difficulty > 1)
    others = [Chord(chord.root, kind, chord.inversion).notes for kind in _family(chord)]
    wrong = [notes for notes in others if spellable(notes, 3)] + [_one_changed(chord.notes, rng) for _ in range(4)]
    position = f" in {INVERSIONS[chord.inversion]}" if difficulty > 1 else ""
    what = f"{chord.name} {'seventh' if chord.kind in SEVENTHS else 'triad'}".replace("seventh seventh", "seventh")
    if rng.random() < 0.2:
        lead = rng.choice(("Which notes, from the bass up, form", "How, from the bass up, does one spell"))
        names = [" ".join(pitch.name for pitch in notes) for notes in wrong]
        return Draft(f"{lead} the {what}{position}?", chord.spelling, some(names, chord.spelling))
    key = random_key(rng, difficulty)
    stem = f"Which ABC chord, read under K:{key.abc}, is the {what}{position}?"
    right = write_chord(chord.notes, key)
    return Draft(stem, right, some((write_chord(notes, key) for notes in wrong), right))


def chord_root(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the root of a chord as it is spelled."""
    chord = random_chord(rng, difficulty, tuple(KINDS)[: 3 * difficulty])
    near = [*chord.notes, *_one_changed(chord.notes, rng), chord.root.altered(1), chord.root.altered(-1)]
    wrong = some((pitch.name for pitch in near if spellable([pitch], 3)), chord.root.name)
    return Draft(
        f"What is the root, as spelled, of the chord that {_shown(chord, difficulty, rng)}", chord.root.name, wrong
    )


def _quality(rng: random.Random, difficulty: int, kinds: Sequence[str], what: str) -> Draft:
    chord = random_chord(rng, difficulty, kinds, inverted=difficulty > 1)
    stem = f"What is the quality of the {what} that {_shown(chord, difficulty, rng)}"
    return Draft(stem, chord.kind, some(kinds, chord.kind))


def _shown(chord: Chord, difficulty: int, rng: random.Random) -> str:
    """Return the end of a question that shows a chord: names, a chord or an arpeggio in ABC, at 3 in open position."""
    notes = chord.notes
    if difficulty == 3 and rng.random() < 0.5:
        notes = [notes[0], *sorted((_raised(pitch, rng.randrange(2)) for pitch in notes[1:]), key=lambda p: p.midi)]
    if rng.random() < 0.4:
        names = [pitch.name for pitch in notes]
        return f"{', '.join(names[:-1])} and {names[-1]} form, from the bass up?"
    key = Key() if difficulty == 1 else random_key(rng, difficulty)
    unit, octaves = rng.choice(UNITS[3]), rng.randrange(-1, 2)
    notes = [_raised(pitch, octaves) for pitch in notes]
    if rng.random() < 0.5:
        return f"these notes form?\n{sheet([write_chord(notes, key)], key, unit)}"
    return f"these notes form together?\n{sheet([' '.join(write_pitches(notes, key))], key, unit)}"


def _raised(pitch: Pitch, octaves: int) -> Pitch:
    return pitch._replace(place=pitch.place + 7 * octaves)


def _one_changed(notes: Sequence[Pitch], rng: random.Random) -> list[Pitch]:
    """Return the notes with one altered by a semitone or respelled."""
    place = rng.randrange(len(notes))
    pitch = notes[place]

    def draw() -> Pitch:
        return Pitch(pitch.place + rng.choice((-1, 0, 0, 1)), rng.choice((-1, 0, 1)))

    changed = drawn(draw, lambda other: other != pitch and abs(other.midi - pitch.midi) <= 1)
    return [*notes[:place], changed, *notes[place + 1 :]]


def _in_position(chord: Chord) -> str:
    return f"{chord.name}, {INVERSIONS[chord.inversion]}"


def _family(chord: Chord) -> tuple[str, ...]:
    return tuple(SEVENTHS if chord.kind in SEVENTHS else TRIADS)


TOPICS = (triad_quality, triad_inversion, seventh_quality, seventh_inversion, chord_spelling, chord_root)
