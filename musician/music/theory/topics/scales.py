"""Scales: their modes, notes and degrees."""

import random
from collections.abc import Sequence

from musician.music.abc.key import Key
from musician.music.abc.pitch import LETTERS, Pitch
from musician.music.theory.draws import Draft, some
from musician.music.theory.notation import UNITS, excerpt, sheet, write_pitches
from musician.music.theory.scale import SCALES_AT, key_scale, random_key, random_scale, scale_of

DEGREES = ("tonic", "supertonic", "mediant", "subdominant", "dominant", "submediant")
SEVENTH_DEGREE = {"major": "leading note", "minor": "subtonic"}
"""Name of the seventh degree of the major and the natural minor scale."""


def mode_of_scale(rng: random.Random, difficulty: int) -> Draft:
    """Ask which scale some notes are, upwards from the tonic, at 3 also downwards."""
    tonic, name = random_scale(rng, difficulty)
    notes = _with_octave(scale_of(tonic, name))
    down = difficulty == 3 and "melodic" not in name and rng.random() < 0.5
    notes = notes[::-1] if down else notes
    wrong = some(SCALES_AT[difficulty], name)
    way = "downwards" if down else "upwards"
    if rng.random() < 0.3:
        return Draft(f"Which scale is this, {way} from its tonic: {_names(notes)}?", name, wrong)
    key = random_key(rng, difficulty)
    return Draft(f"Which scale is this, {way} from its tonic?\n{_written(notes, key, rng)}", name, wrong)


def scale_spelling(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the notes of a scale, as names or in ABC; the wrong options are other scales or misspelled."""
    tonic, name = random_scale(rng, difficulty)
    right = scale_of(tonic, name)
    others = [scale_of(tonic, other) for other in SCALES_AT[difficulty] if other != name]
    others = [notes for notes in others if all(abs(pitch.alter) <= 2 for pitch in notes)]
    wrong = others if rng.random() < 0.5 else _misspelled(right, rng)
    if rng.random() < 0.2:
        stem = f"Which notes form the {tonic.name} {name} scale?"
        return Draft(stem, _names(right), some(map(_names, wrong), _names(right)))
    key = random_key(rng, difficulty)
    written = [" ".join(write_pitches(notes, key)) for notes in (right, *wrong)]
    stem = f"Which notes, in ABC under K:{key.abc}, form the {tonic.name} {name} scale?"
    return Draft(stem, written[0], some(written, written[0]))


def scale_degree(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note a degree's name stands for, or how the degree of a note is called."""
    key = random_key(rng, difficulty)
    notes = key_scale(key)
    degree = rng.randrange(1, 7)
    names = (*DEGREES, SEVENTH_DEGREE[key.mode])
    scale = f"the {_scale_name(key)} scale"
    where, shown = f"In {scale} on {key.tonic}", ""
    if rng.random() < 0.8:
        where, shown = f"In {scale} of the key of this music", f"\n{excerpt(key, difficulty, rng)}"
    if rng.random() < 0.5:
        right = notes[degree].name
        near = [pitch.name for pitch in (*notes, notes[degree].altered(1), notes[degree].altered(-1))]
        return Draft(f"{where}, which note is the {names[degree]}?{shown}", right, some(near, right))
    right = names[degree]
    return Draft(f"{where}, what is the note {notes[degree].name} called?{shown}", right, some(names, right))


def next_in_scale(rng: random.Random, difficulty: int) -> Draft:
    """Ask how a scale goes on, upwards or, from difficulty 2 on, downwards."""
    tonic, name = random_scale(rng, difficulty)
    notes = scale_of(tonic, name)
    turn = [pitch._replace(place=pitch.place + 7 * octave) for octave in (0, 1) for pitch in notes]
    if difficulty > 1 and "melodic" not in name and rng.random() < 0.5:
        turn.reverse()
    start, count = rng.randrange(7), rng.randrange(2, 6)
    shown, right = turn[start : start + count], turn[start + count].name
    near = [Pitch(turn[start + count].place + step, alter).name for step in (-1, 0, 1) for alter in (-1, 0, 1)]
    stem = f"These notes belong to the {tonic.name} {name} scale. Which note of it comes next"
    if rng.random() < 0.4:
        return Draft(f"{stem}: {_names(shown)}?", right, some(near, right))
    return Draft(f"{stem}?\n{_written(shown, random_key(rng, difficulty), rng)}", right, some(near, right))


def diatonic_note(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the one note within or without a scale; the notes without it do not even sound like one of it."""
    tonic, name = random_scale(rng, difficulty)
    notes, where, shown = scale_of(tonic, name), f"the {tonic.name} {name} scale", ""
    if rng.random() < 0.7:
        key = random_key(rng, difficulty)
        notes, where = key_scale(key), f"the {_scale_name(key)} scale of the key of this music"
        shown = f"\n{excerpt(key, difficulty, rng)}"
    sounding = {pitch.midi % 12 for pitch in notes}
    chromatic = [Pitch(place, alter) for place in range(len(LETTERS)) for alter in (-1, 0, 1)]
    inside, outside = [pitch.name for pitch in notes], [p.name for p in chromatic if p.midi % 12 not in sounding]
    what, right, wrong = rng.choice((("belongs", inside, outside), ("does not belong", outside, inside)))
    return Draft(f"Which of these notes {what} to {where}?{shown}", rng.choice(right), rng.sample(wrong, 3))


def _scale_name(key: Key) -> str:
    return "natural minor" if key.mode == "minor" else key.mode


def _with_octave(notes: list[Pitch]) -> list[Pitch]:
    return [*notes, notes[0]._replace(place=notes[0].place + 7)]


def _names(notes: Sequence[Pitch]) -> str:
    return " ".join(pitch.name for pitch in notes)


def _written(notes: Sequence[Pitch], key: Key, rng: random.Random) -> str:
    return sheet([" ".join(write_pitches(notes, key))], key, rng.choice(UNITS[3]))


def _misspelled(notes: list[Pitch], rng: random.Random) -> list[list[Pitch]]:
    """Return the scale with one of two notes a semitone off, with the other and with both: none is the middle."""
    shifts = {
        place: rng.choice([step for step in (-1, 1) if abs(notes[place].alter + step) <= 2])
        for place in rng.sample(range(1, 7), 2)
    }
    first, second = shifts
    return [
        [pitch.altered(shifts[place] if place in off else 0) for place, pitch in enumerate(notes)]
        for off in ((first,), (second,), (first, second))
    ]


TOPICS = (mode_of_scale, scale_spelling, scale_degree, next_in_scale, diatonic_note)
