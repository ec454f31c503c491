"""Triads and seventh chords as spelled notes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from musician.music.abc.key import Key
from musician.music.abc.pitch import Interval, Pitch
from musician.music.theory.draws import drawn
from musician.music.theory.scale import common_names, key_scale

TRIADS = {
    "major": ((2, 4), (4, 7)),
    "minor": ((2, 3), (4, 7)),
    "diminished": ((2, 3), (4, 6)),
    "augmented": ((2, 4), (4, 8)),
}
SEVENTHS = {
    "dominant seventh": ((2, 4), (4, 7), (6, 10)),
    "major seventh": ((2, 4), (4, 7), (6, 11)),
    "minor seventh": ((2, 3), (4, 7), (6, 10)),
    "half-diminished seventh": ((2, 3), (4, 6), (6, 10)),
    "diminished seventh": ((2, 3), (4, 6), (6, 9)),
}
KINDS = TRIADS | SEVENTHS
INVERSIONS = ("root position", "first inversion", "second inversion", "third inversion")

MAJOR_NUMERALS = {
    "I": (0, "major"),
    "ii": (1, "minor"),
    "iii": (2, "minor"),
    "IV": (3, "major"),
    "V": (4, "major"),
    "vi": (5, "minor"),
    "vii°": (6, "diminished"),
}
MINOR_NUMERALS = {
    "i": (0, "minor"),
    "ii°": (1, "diminished"),
    "III": (2, "major"),
    "iv": (3, "minor"),
    "V": (4, "major"),
    "VI": (5, "major"),
    "VII": (6, "major"),
    "vii°": (6, "diminished"),
}
"""Degree of the root, from 0, and kind; `vii°` of minor stands on the raised seventh degree."""


class Chord(NamedTuple):
    """A chord in close position: its root, its kind (of `KINDS`) and which of its notes lies lowest."""

    root: Pitch
    kind: str
    inversion: int = 0

    @property
    def name(self) -> str:
        """Root and kind, as `Bb minor`."""
        return f"{self.root.name} {self.kind}"

    @property
    def notes(self) -> list[Pitch]:
        """The notes upwards from the bass."""
        upright = [self.root, *(self.root.above(Interval(*step)) for step in KINDS[self.kind])]
        low, high = upright[self.inversion :], upright[: self.inversion]
        return low + [pitch._replace(place=pitch.place + 7) for pitch in high]

    @property
    def spelling(self) -> str:
        """The names of the notes from the bass, as `Eb G Bb`."""
        return " ".join(pitch.name for pitch in self.notes)


def spellable(pitches: Sequence[Pitch], difficulty: int) -> bool:
    """Whether no note is altered more than the difficulty allows: doubly at 3, else once."""
    return all(abs(pitch.alter) <= (2 if difficulty == 3 else 1) for pitch in pitches)


def random_chord(rng: random.Random, difficulty: int, kinds: Sequence[str], inverted: bool = True) -> Chord:
    """Return a chord of one of the kinds, in any position if `inverted`."""

    def draw() -> Chord:
        kind = rng.choice(kinds)
        inversion = rng.randrange(len(KINDS[kind]) + 1) if inverted else 0
        return Chord(rng.choice(common_names(difficulty)), kind, inversion)

    return drawn(draw, lambda chord: spellable(chord.notes, difficulty))


def numerals(key: Key) -> dict[str, tuple[int, str]]:
    """Return the Roman numerals in use in a major or minor key."""
    return MINOR_NUMERALS if key.mode == "minor" else MAJOR_NUMERALS


def chord_of(key: Key, numeral: str) -> Chord:
    """Return the chord of a Roman numeral in a major or minor key."""
    degree, kind = numerals(key)[numeral]
    root = key_scale(key)[degree]
    return Chord(root.altered(1) if key.mode == "minor" and numeral == "vii°" else root, kind)
