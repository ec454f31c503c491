"""Keys and scales as spelled notes, and the notes in use."""

import random

from musician.music.abc.key import Key, named_key
from musician.music.abc.pitch import Interval, Pitch, named_pitch

SCALES: dict[str, tuple[str, dict[int, int]]] = {
    "major": ("maj", {}),
    "natural minor": ("min", {}),
    "dorian": ("dor", {}),
    "phrygian": ("phr", {}),
    "lydian": ("lyd", {}),
    "mixolydian": ("mix", {}),
    "locrian": ("loc", {}),
    "harmonic minor": ("min", {6: 1}),
    "ascending melodic minor": ("min", {5: 1, 6: 1}),
}
"""Each scale as a mode of `MODES` and the steps it raises, counted from 0."""
SCALES_AT = {1: tuple(SCALES)[:4], 2: tuple(SCALES)[:7], 3: tuple(SCALES)}
MOST_ACCIDENTALS = {1: 3, 2: 5, 3: 7}
_COMMON_FIFTHS = {1: (-2, 5), 2: (-5, 7), 3: (-8, 10)}
_TONICS = [Interval(4 * step % 7, 7 * step - 12 * (4 * step // 7)) for step in range(-12, 13)]
"""From C to each note that can be a tonic, brought within an octave by letter."""


def scale_of(tonic: Pitch, name: str) -> list[Pitch]:
    """Return the seven notes of a scale upwards from its tonic."""
    mode, raised = SCALES[name]
    altered = named_key(tonic.name, mode).alterations
    naturals = [Pitch(tonic.place + step) for step in range(7)]
    return [pitch.altered(altered.get(pitch.letter, 0) + raised.get(step, 0)) for step, pitch in enumerate(naturals)]


def key_scale(key: Key) -> list[Pitch]:
    """Return the seven notes of a key (a minor one's natural scale) upwards from its tonic."""
    tonic = named_pitch(key.tonic)
    naturals = [Pitch(tonic.place + step) for step in range(7)]
    return [pitch.altered(key.alterations.get(pitch.letter, 0)) for pitch in naturals]


def keys(mode: str, most: int = 7) -> list[Key]:
    """Return the keys of a mode of `MODES` with at most so many sharps or flats, flattest first."""
    every = [named_key(pitch.name, mode) for pitch in (named_pitch("C").above(step) for step in _TONICS)]
    return [key for key in every if abs(key.sharps) <= most]


def random_key(rng: random.Random, difficulty: int, modes: tuple[str, ...] = ("maj", "min")) -> Key:
    """Return a key with as many accidentals as the difficulty allows."""
    return rng.choice(keys(rng.choice(modes), MOST_ACCIDENTALS[difficulty]))


def random_scale(rng: random.Random, difficulty: int) -> tuple[Pitch, str]:
    """Return a tonic and the name of a scale that needs no double flats, nor double sharps but for leading notes."""
    while True:
        tonic, name = rng.choice(common_names(difficulty)), rng.choice(SCALES_AT[difficulty])
        if abs(named_key(tonic.name, SCALES[name][0]).sharps) <= MOST_ACCIDENTALS[difficulty]:
            return tonic, name


def common_names(difficulty: int) -> list[Pitch]:
    """Return the notes in use at a difficulty, in the octave from middle C: those near C on the line of fifths."""
    flattest, sharpest = _COMMON_FIFTHS[difficulty]
    every = (Pitch(place, alter) for place in range(7) for alter in (-1, 0, 1))
    return [pitch for pitch in every if flattest <= pitch.fifths <= sharpest]


def random_pitch(rng: random.Random, difficulty: int, octaves: tuple[int, ...] = (-1, 0, 1)) -> Pitch:
    """Return one of the common notes in one of the octaves, 0 being the one from middle C."""
    pitch = rng.choice(common_names(difficulty))
    return Pitch(pitch.place + 7 * rng.choice(octaves), pitch.alter)
