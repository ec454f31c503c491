"""Which key and which bars notes have, where nothing says so.

Key: how likely the pitch classes are under the profiles of J. Albrecht and D. Shanahan (The Use of Large Corpora to
Train a New Type of Key-Finding Algorithm, 2013). Bars: how likely the onsets are
for each meter and each place of the first bar line, onsets taken as independent (after Temperley, Music and
Probability, 2007, chapter 3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from musician.music.abc.key import Key, named_key
from musician.music.abc.meter import Meter
from musician.music.convert.beats import ScoreNote

_PROFILES = {
    "maj": (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    "min": (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
}
_TONICS = {
    "maj": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "min": ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"),
}
_TURNED = 3
"""A mode's own degree has to last so many times as long as the one it replaces."""

_FINEST = Fraction(1, 4)
"""The grid of the meter's likelihood, in quarters: sixteenths."""
_SIMPLE = {
    2: (0.99, 0.87, 0.22, 0.73, 0.34),
    3: (0.99, 0.74, 0.04, 0.32, 0.06),
    4: (0.99, 0.86, 0.02, 0.43, 0.13),
}
"""Share of full bars' places that have an onset: bar line, other beats, the second to fourth quarter of a beat."""
_COMPOUND = (0.99, 0.96, 0.02, 0.58, 0.05, 0.93, 0.04)
"""The same for beats of three eighths: bar line, other beats, the second to sixth sixteenth of a beat."""
_USUAL = tuple(Meter(*each) for each in ((4, 4), (2, 4), (3, 4), (6, 8), (9, 8)))
_SHORT_PICKUP, _ON_EIGHTH = math.log(30.0), math.log(3.0)
"""Beforehand a pick-up is under half a bar, and whole eighths; our guess."""


class Bars(NamedTuple):
    """Bars of one meter; the first bar line stands `pickup` quarters after the first beat."""

    meter: Meter
    pickup: Fraction

    @property
    def length(self) -> Fraction:
        """Quarters in a bar."""
        return self.meter.duration * 4


def find_key(notes: Sequence[ScoreNote]) -> Key:
    """Return the likeliest key: major, minor, or dorian and mixolydian where their own degree prevails."""
    weights = np.zeros(12)
    for note in notes:
        weights[note.midi % 12] += float(note.duration)
    scores = {
        (tonic, mode): float(weights @ np.log(np.roll(profile, tonic)))
        for mode, profile in _PROFILES.items()
        for tonic in range(12)
    }
    tonic, mode = max(scores, key=lambda each: scores[each])
    return named_key(_TONICS[mode][tonic], _turned(weights, tonic, mode))


def _turned(weights: NDArray[np.float64], tonic: int, mode: str) -> str:
    """Return dorian for a minor with raised sixths, mixolydian for a major with lowered sevenths, else the mode."""
    own, usual, turned = (10, 11, "mix") if mode == "maj" else (9, 8, "dor")
    return turned if weights[(tonic + own) % 12] > _TURNED * weights[(tonic + usual) % 12] else mode


def find_bars(notes: Sequence[ScoreNote], meter: Meter | None = None) -> Bars:
    """Return the likeliest bars, of the meter given where one is."""
    onsets = {note.onset for note in notes}
    choices = [choice for each in ((meter,) if meter else _USUAL) for choice in _placed(each, onsets)]
    return max(choices)[1]


def _placed(meter: Meter, onsets: set[Fraction]) -> Iterator[tuple[float, Bars]]:
    """Yield the likelihood of every place of the first bar line."""
    shares = np.clip(_profile(meter), 0.01, 0.985)
    size = len(shares)
    first = int(min(onsets) / _FINEST)
    hits = Counter(int(onset / _FINEST) for onset in onsets if (onset / _FINEST).denominator == 1)
    count = int(max(onsets) / _FINEST) - first + 1
    found, every = np.zeros(size), np.zeros(size)
    for place in hits:
        found[place % size] += 1
    for place in range(size):
        every[(first + place) % size] = max(0, (count - place + size - 1) // size)
    for shift in range(size):
        turned = np.roll(shares, shift)
        score = float(found @ np.log(turned) + (every - found) @ np.log1p(-turned))
        score += _SHORT_PICKUP * (2 * shift < size) + _ON_EIGHTH * (shift % 2 == 0)
        yield score, Bars(meter, shift * _FINEST)


def _profile(meter: Meter) -> NDArray[np.float64]:
    """Return how likely an onset is on each sixteenth of a bar."""
    size = max(1, int(meter.duration * 4 / _FINEST))
    if meter.compound:
        bar, beat, *within = _COMPOUND
        step = max(1, 48 // meter.unit)
    else:
        bar, beat, *within = _SIMPLE.get(meter.beats, _SIMPLE[4])
        step = 4 if meter.unit <= 4 else max(1, 16 // meter.unit)
    spread = [beat] + [0.02] * (step - 1)
    for number, share in enumerate(within, 1):
        place = number * step / (len(within) + 1)
        if place == int(place):
            spread[int(place)] = share
    shares = np.resize(np.array(spread), size)
    shares[0] = bar
    return shares
