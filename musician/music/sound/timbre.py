"""Tones made of sines: a few instruments, none of them recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 44_100
"""Samples a second."""

Samples = NDArray[np.float32]

_BLOCK = RATE
#: Partials above are left out, so that none is mirrored at half the rate.
_HIGHEST = 0.45 * RATE


@dataclass(frozen=True, slots=True)
class Timbre:
    """How a tone sounds.

    Attributes:
        partials: amplitudes of the fundamental and the partials above it.
        decay: seconds in which the fundamental of A4 falls to 1/e; None sounds on. Lower notes last longer.
        damping: how much faster higher partials fall: partial k by k to this power.
        stiffness: raises partial k by the factor sqrt(1 + stiffness * k^2), as a stiff string does.
        attack: seconds to full strength.
        release: seconds from the end of a note to silence.
        vibrato: depth in cents, at 5.5 Hz; it comes in the first half second.
    """

    partials: tuple[float, ...]
    decay: float | None = None
    damping: float = 0.7
    stiffness: float = 0.0
    attack: float = 0.01
    release: float = 0.08
    vibrato: float = 0.0


PIANO = Timbre((1, 0.55, 0.32, 0.2, 0.12, 0.08, 0.05, 0.03), 1.1, 0.8, 0.0004, 0.004, 0.12)
PLUCKED = Timbre((1, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05), 0.7, 1.0, 0.0001, 0.002, 0.1)
BELL = Timbre((1, 0.1, 0.4, 0.05, 0.2), 0.9, 1.1, 0.01, 0.002, 0.3)
FLUTE = Timbre((1, 0.28, 0.1, 0.04, 0.02), attack=0.05, release=0.08, vibrato=8)
BOWED = Timbre((1, 0.6, 0.45, 0.32, 0.26, 0.18, 0.13, 0.1, 0.07, 0.05), attack=0.07, release=0.12, vibrato=14)
REED = Timbre((1, 0.45, 0.7, 0.3, 0.4, 0.2, 0.22, 0.1, 0.1, 0.06), attack=0.03, release=0.06)
ORGAN = Timbre((1, 0.6, 0.25, 0.4, 0.05, 0.12, 0.02, 0.15), attack=0.015, release=0.05)

#: Words of General MIDI's names of instruments; the first timbre with one is taken.
_WORDS = (
    (BELL, "celesta glockenspiel box vibraphone marimba xylophone bells bell kalimba agogo drums santoor"),
    (PIANO, "piano clavichord clavinet harpsichord"),
    (PLUCKED, "guitar harp pizzicato bass banjo sitar shamisen koto dulcimer lute mandolin"),
    (FLUTE, "flute piccolo recorder whistle ocarina bottle shakuhachi calliope"),
    (REED, "accordion harmonica oboe clarinet bassoon sax reed bagpipe english shanai bandoneon concertina"),
    (BOWED, "violin viola cello contrabass strings string fiddle"),
    (ORGAN, "organ choir voice aahs oohs trumpet trombone tuba horn brass pad lead ensemble section"),
)


def find_timbre(instrument: str) -> Timbre | None:
    """Return the timbre nearest to a General MIDI instrument such as `acoustic_grand_piano`; None for none of them."""
    parts = set(instrument.split("_"))
    return next((timbre for timbre, words in _WORDS if parts & set(words.split())), None)


def frequency(midi: int) -> float:
    """Hertz of a MIDI number in equal temperament, A4 (69) at 440."""
    return 440.0 * 2 ** ((midi - 69) / 12)


def tone(timbre: Timbre, midi: int, seconds: float) -> Samples:
    """Return a tone `[seconds * RATE]` without its release, between -1 and 1."""
    count = round(seconds * RATE)
    found = np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        found[start:stop] = _block(timbre, midi, np.arange(start, stop) / RATE)
    return found / sum(timbre.partials)


def fade(samples: Samples, timbre: Timbre) -> Samples:
    """Return a copy that fades to silence over the timbre's release at its end."""
    length = min(len(samples), round(timbre.release * RATE))
    faded = samples.copy()
    faded[len(samples) - length :] *= np.linspace(1, 0, length, dtype=np.float32)
    return faded


def _block(timbre: Timbre, midi: int, time: NDArray[np.float64]) -> Samples:
    """Samples at some times, before they are scaled."""
    base = frequency(midi)
    wobble = np.zeros_like(time)
    if timbre.vibrato:
        depth = base * (2 ** (timbre.vibrato / 1200) - 1)
        wobble = depth / 5.5 * np.cos(2 * np.pi * 5.5 * time) * np.minimum(time * 2, 1)
    found = np.zeros(len(time), np.float32)
    for place, amplitude in enumerate(timbre.partials, 1):
        stretch = (1 + timbre.stiffness * place**2) ** 0.5
        if place * base * stretch > _HIGHEST:
            break
        phase = np.mod(2 * np.pi * place * stretch * base * time + place * wobble, 2 * np.pi)
        partial = np.sin(phase.astype(np.float32)) * np.float32(amplitude)
        if timbre.decay is not None:
            rate = place**timbre.damping * (base / 440) ** 0.5 / timbre.decay
            partial *= np.exp(-rate * time).astype(np.float32)
        found += partial
    return found * np.minimum(time / timbre.attack, 1).astype(np.float32)
