"""Spelled pitches: a place on the staff and what alters it."""

from __future__ import annotations

import random
from typing import NamedTuple

from musician.music.abc.body import SEMITONES
from musician.music.abc.key import SHARP_ORDER
from musician.music.analysis.interval import Interval

LETTERS = "CDEFGAB"
ACCIDENTALS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_FIFTHS = {1: (-2, 5), 2: (-5, 7), 3: (-8, 10)}


class Pitch(NamedTuple):
    """A written note: its `place` in letters above middle C (see `staff_place`) and its `alter` in semitones."""

    place: int
    alter: int = 0

    @property
    def letter(self) -> str:
        """The letter, `C` to `B`."""
        return LETTERS[self.place % 7]

    @property
    def midi(self) -> int:
        """The sounding pitch; middle C is 60."""
        return 60 + 12 * (self.place // 7) + SEMITONES[self.letter] + self.alter

    @property
    def name(self) -> str:
        """The name without octave, as `F##` or `Eb`."""
        return self.letter + ("#" * self.alter if self.alter > 0 else "b" * -self.alter)

    @property
    def full_name(self) -> str:
        """The name with octave, as `Eb4`; middle C is `C4`."""
        return f"{self.name}{4 + self.place // 7}"

    @property
    def fifths(self) -> int:
        """The place on the line of fifths: `C` 0, `G` 1, `F` -1, `Bb` -2."""
        return SHARP_ORDER.index(self.letter) - 1 + 7 * self.alter

    @property
    def abc_letter(self) -> str:
        """The letter with its octave in ABC, without accidental: `C,`, `C`, `c`, `c'`."""
        octave = self.place // 7
        return self.letter.lower() + "'" * (octave - 1) if octave > 0 else self.letter + "," * -octave

    @property
    def abc(self) -> str:
        """The note in ABC where no key signature alters it."""
        return (ACCIDENTALS[self.alter] if self.alter else "") + self.abc_letter

    def above(self, interval: Interval) -> Pitch:
        """Return the note so much higher, spelled as the interval demands."""
        place = self.place + interval.letters
        return Pitch(place, self.midi + interval.semitones - Pitch(place).midi)

    def below(self, interval: Interval) -> Pitch:
        """Return the note so much lower."""
        return self.above(Interval(-interval.letters, -interval.semitones))

    def altered(self, semitones: int) -> Pitch:
        """Return the note on the same letter, sharpened by so many semitones."""
        return Pitch(self.place, self.alter + semitones)


def named_pitch(name: str, octave: int = 4) -> Pitch:
    """Return the pitch a name as `Eb` stands for."""
    return Pitch(LETTERS.index(name[0]) + 7 * (octave - 4), name.count("#") - name[1:].count("b"))


def common_names(difficulty: int) -> list[Pitch]:
    """Return the notes in use at a difficulty, in the octave from middle C: those near C on the line of fifths."""
    flattest, sharpest = _FIFTHS[difficulty]
    every = (Pitch(place, alter) for place in range(7) for alter in (-1, 0, 1))
    return [pitch for pitch in every if flattest <= pitch.fifths <= sharpest]


def random_pitch(rng: random.Random, difficulty: int, octaves: tuple[int, ...] = (-1, 0, 1)) -> Pitch:
    """Return one of the common notes in one of the octaves, 0 being the one from middle C."""
    pitch = rng.choice(common_names(difficulty))
    return Pitch(pitch.place + 7 * rng.choice(octaves), pitch.alter)
