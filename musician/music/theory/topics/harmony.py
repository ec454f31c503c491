"""Harmony: Roman numerals, functions, cadences."""

import random
from collections.abc import Sequence

from musician.music.abc.key import Key
from musician.music.abc.pitch import Interval
from musician.music.theory.chord import Chord, chord_of, numerals, spellable
from musician.music.theory.draws import Draft, drawn, some
from musician.music.theory.notation import UNITS, excerpt, sheet, write_chord
from musician.music.theory.scale import random_key

CADENCES: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "authentic cadence": {"major": (("V", "I"),), "minor": (("V", "i"),)},
    "plagal cadence": {"major": (("IV", "I"),), "minor": (("iv", "i"),)},
    "half cadence": {
        "major": (("IV", "V"), ("ii", "V"), ("I", "V"), ("vi", "V")),
        "minor": (("iv", "V"), ("ii°", "V"), ("i", "V"), ("VI", "V")),
    },
    "deceptive cadence": {"major": (("V", "vi"),), "minor": (("V", "VI"),)},
}
FUNCTIONS = {
    "dominant": (("V", "vii°"), ("I", "i", "IV", "iv", "ii", "ii°", "vi", "VI")),
    "subdominant (predominant)": (("IV", "iv", "ii", "ii°"), ("I", "i", "V", "vii°")),
    "tonic": (("I", "i"), ("IV", "iv", "ii", "ii°", "V", "vii°")),
}
"""What serves each function and what does not; chords that books dispute, as the mediant, are in neither."""
APPLIED = {"major": ("ii", "iii", "IV", "V", "vi"), "minor": ("III", "iv", "V", "VI", "VII")}


def cadence_type(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the cadence a progression ends with."""
    key = random_key(rng, difficulty)
    name = rng.choice(tuple(CADENCES))
    end = rng.choice(CADENCES[name][key.mode])
    start = [rng.choice(tuple(numerals(key))) for _ in range(rng.randrange(1, 2 + difficulty))]
    chords = [chord_of(key, numeral) for numeral in (*start, *end)]
    stem = f"With which cadence does this progression in {key.name} end"
    if rng.random() < 0.5:
        return Draft(f"{stem}: {', '.join(chord.name for chord in chords)}?", name, some(CADENCES, name))
    return Draft(f"{stem}?\n{_written(chords, key, rng)}", name, some(CADENCES, name))


def roman_numeral(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the Roman numeral of a chord in a key."""
    key = random_key(rng, difficulty)
    right = rng.choice(tuple(numerals(key)))
    chord = chord_of(key, right)
    wrong = some((*numerals(key), *(_other_case(each) for each in numerals(key))), right)
    if rng.random() < 0.3:
        return Draft(f"Which Roman numeral does the {chord.name} triad have in {key.name}?", right, wrong)
    inversion = rng.randrange(3) if difficulty > 1 else 0
    music = _written([chord._replace(inversion=inversion)], key, rng)
    position = " (whatever its position)" if inversion else ""
    return Draft(f"Which Roman numeral does this chord have in {key.name}{position}?\n{music}", right, wrong)


def chord_of_numeral(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the chord of a Roman numeral."""
    key = random_key(rng, difficulty)
    numeral = rng.choice(tuple(numerals(key)))
    chord = chord_of(key, numeral)
    near = [chord_of(key, other) for other in numerals(key)]
    return _about(key, f"which triad is {numeral}", chord, near, rng, difficulty)


def chord_function(rng: random.Random, difficulty: int) -> Draft:
    """Ask for a chord that serves a function; the wrong ones serve another."""
    key = random_key(rng, difficulty)
    name = rng.choice(tuple(FUNCTIONS))
    serving, other = ([each for each in side if each in numerals(key)] for side in FUNCTIONS[name])
    wrong = [chord_of(key, numeral) for numeral in other]
    return _about(key, f"which triad has {name} function", chord_of(key, rng.choice(serving)), wrong, rng, difficulty)


def secondary_dominant(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the dominant of a degree other than the tonic."""
    key, numeral = drawn(lambda: _applied(rng, difficulty), lambda pair: spellable(_dominant(*pair).notes, difficulty))
    chord = _dominant(key, numeral)
    near = [_dominant(key, other) for other in APPLIED[key.mode]]
    near += [chord._replace(root=chord.root.above(Interval(*step))) for step in ((1, 2), (3, 5), (5, 8), (6, 10))]
    return _about(key, f"which triad is the secondary dominant V/{numeral}", chord, near, rng, difficulty)


def _about(key: Key, what: str, right: Chord, near: Sequence[Chord], rng: random.Random, difficulty: int) -> Draft:
    """Ask for a chord in a key that is named or whose music is shown."""
    wrong = [chord.name for chord in near if spellable(chord.notes, 3)]
    if rng.random() < 0.3:
        return Draft(f"In {key.name}, {what}?", right.name, some(wrong, right.name))
    stem = f"In the key of this music, {what}?\n{excerpt(key, difficulty, rng)}"
    return Draft(stem, right.name, some(wrong, right.name))


def _applied(rng: random.Random, difficulty: int) -> tuple[Key, str]:
    key = random_key(rng, difficulty)
    return key, rng.choice(APPLIED[key.mode])


def _dominant(key: Key, numeral: str) -> Chord:
    return Chord(chord_of(key, numeral).root.above(Interval(4, 7)), "major")


def _other_case(numeral: str) -> str:
    plain = numeral.rstrip("°")
    return plain.lower() if plain.isupper() else plain.upper()


def _written(chords: Sequence[Chord], key: Key, rng: random.Random) -> str:
    """Return the chords in ABC, one in each bar."""
    return sheet([write_chord(chord.notes, key) for chord in chords], key, rng.choice(UNITS[3]))


TOPICS = (cadence_type, roman_numeral, chord_of_numeral, chord_function, secondary_dominant)
