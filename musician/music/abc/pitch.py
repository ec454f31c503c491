"""Spelled pitches, as places on the staff and what alters them, and the intervals between them."""

from __future__ import annotations

from typing import NamedTuple

LETTERS = "CDEFGAB"
SHARP_ORDER = "FCGDAEB"
SEMITONES = dict(zip(LETTERS, (0, 2, 4, 5, 7, 9, 11), strict=True))
"""Semitones of each letter above C."""
ACCIDENTALS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
ALTERATIONS = {accidental: semitones for semitones, accidental in ACCIDENTALS.items()}
NUMBERS = ("unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave")
_PERFECT = (0, 3, 4)


class Interval(NamedTuple):
    """A distance: `letters` between the written notes (a third: 2) and `semitones` between the sounding ones."""

    letters: int
    semitones: int

    @property
    def name(self) -> str | None:
        """The name, as `minor third`; None beyond an octave and for what is more than augmented or diminished."""
        if not 0 <= self.letters <= 7:
            return None
        excess = self.semitones - (Pitch(self.letters).midi - Pitch(0).midi)
        named = {0: "perfect", 1: "augmented", -1: "diminished"}
        if self.letters % 7 not in _PERFECT:
            named = {0: "major", -1: "minor", 1: "augmented", -2: "diminished"}
        quality = named.get(excess)
        return f"{quality} {NUMBERS[self.letters]}" if quality else None


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


def staff_place(letter: str, marks: str) -> int:
    """Return a written note's place on the staff, counted in letters: `C` is 0, `c` 7, `C,` -7."""
    octave = (letter.islower()) + marks.count("'") - marks.count(",")
    return 7 * octave + LETTERS.index(letter.upper())
