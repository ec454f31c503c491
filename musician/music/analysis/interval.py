"""Intervals and their names, from spelled pitches."""

from typing import NamedTuple

NUMBERS = ("unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave")
_LETTERS = "CDEFGAB"
_PERFECT = (0, 3, 4)
_MAJOR = (0, 2, 4, 5, 7, 9, 11)


class Interval(NamedTuple):
    """A distance: `letters` between the written notes (a third: 2) and `semitones` between the sounding ones."""

    letters: int
    semitones: int

    @property
    def name(self) -> str | None:
        """The name, as `minor third`; None beyond an octave and for what is more than augmented or diminished."""
        if not 0 <= self.letters <= 7:
            return None
        octaves, place = divmod(self.letters, 7)
        excess = self.semitones - 12 * octaves - _MAJOR[place]
        named = {0: "perfect", 1: "augmented", -1: "diminished"}
        if place not in _PERFECT:
            named = {0: "major", -1: "minor", 1: "augmented", -2: "diminished"}
        quality = named.get(excess)
        return f"{quality} {NUMBERS[self.letters]}" if quality else None


def staff_place(letter: str, marks: str) -> int:
    """Return a written note's place on the staff, counted in letters: `C` is 0, `c` 7, `C,` -7."""
    octave = (letter.islower()) + marks.count("'") - marks.count(",")
    return 7 * octave + _LETTERS.index(letter.upper())


COMMON = tuple(
    name
    for letters, semitones in (
        *((place, _MAJOR[place] - flat) for place in range(1, 7) for flat in (0, 1)),
        (3, 6),
        (7, 12),
    )
    if (name := Interval(letters, semitones).name) and (letters, semitones) != (3, 4)
)
"""The intervals within the major and minor scales, augmented fourth and diminished fifth included."""


def neighbours(interval: Interval) -> list[str]:
    """Return the common intervals at most two letters from this one, itself left out: what it is easily taken for."""
    near = [
        Interval(letters, size) for letters in range(interval.letters - 2, interval.letters + 3) for size in range(13)
    ]
    return [name for each in near if (name := each.name) in COMMON and name != interval.name]
