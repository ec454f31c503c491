"""The oracle of the theory questions: what an option says, read by music21, which the generator must not use."""

import re
from fractions import Fraction
from functools import lru_cache

import pytest

from musician.music.theory.items import make_items

m21 = pytest.importorskip("music21")

PITCH = re.compile(r"\b[A-G](?:##|#|bb|b)?[0-9]\b|\b[A-G](?:##|#|bb|b)?(?![\w#])")
NUMBERS = ("unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave")
QUALITIES = {"minor": "m", "major": "M", "perfect": "P", "augmented": "A", "diminished": "d"}
ABC_MODES = {"": "major", "m": "minor", "dor": "dorian", "phr": "phrygian", "lyd": "lydian", "mix": "mixolydian",
             "loc": "locrian"}  # fmt: skip
VALUES = {"whole": 4, "half": 2, "quarter": 1, "eighth": Fraction(1, 2), "sixteenth": Fraction(1, 4),
          "thirty-second": Fraction(1, 8), "64th": Fraction(1, 16)}  # fmt: skip
DOTS = {"dotted": 1, "double-dotted": 2, "triple-dotted": 3}
CHECKED = 34
"""Items per difficulty, each with a seed of its own: 102 of each topic."""


def check(topic, fits, tunes=None):
    """The right option fits, and no other does, over at least 100 items."""
    for difficulty in (1, 2, 3):
        for item in make_items(CHECKED, difficulty + 1, difficulty, [topic], tunes):
            question, _, abc = item.stem.partition("\n")
            found = [bool(fits(question, abc, option)) for option in item.options]
            assert found == [place == item.answer for place in range(4)], (item, found)


def american(name):
    """music21's name of a note: `B-4` for `Bb4`."""
    return name[0] + name[1:].replace("b", "-")


def pitch(name):
    return m21.pitch.Pitch(american(name))


def names(text):
    """The notes named in a text, in order."""
    return [american(name) for name in PITCH.findall(text.replace("middle C", "").replace("C4 is", ""))]


def rising(text):
    """The notes named in a text as pitches, each above the one before."""
    pitches = []
    for name in names(text):
        found = m21.pitch.Pitch(name, octave=2)
        while pitches and found.diatonicNoteNum <= pitches[-1].diatonicNoteNum:
            found.octave += 1
        pitches.append(found)
    return pitches


@lru_cache(maxsize=4096)
def parsed(abc):
    """Notes, rests and chords of a piece of ABC; accidentals hold through the bar from version 2.1 on."""
    return list(m21.converter.parse(f"%abc-2.1\nX:1\n{abc}", format="abc").flatten().notesAndRests)


def pitches(abc):
    """The pitches of a piece of ABC, chords from below."""
    return [each for event in parsed(abc) if not event.isRest for each in event.pitches]


def total(abc):
    """The duration of a piece of ABC in quarter notes."""
    return sum(Fraction(event.quarterLength).limit_denominator(64) for event in parsed(abc))


def alone(token, field="C", unit="1/8"):
    """One note of ABC."""
    return parsed(f"L:{unit}\nK:{field}\n{token} |")[0]


def field(abc, letter):
    return re.search(rf"^{letter}:(.*)$", abc, re.MULTILINE)[1]


def bars(abc):
    """Each bar of a piece of ABC with the fields above it."""
    head, _, music = abc.partition("\n| ")
    return [f"{head}\n{bar} |" for bar in music.strip("| ").split(" | ")]


def key(words):
    """The key `Eb dorian`."""
    tonic, mode = words.split()
    return m21.key.Key(american(tonic), mode)


def key_shown(abc):
    """The key of the `K:` field."""
    found = re.fullmatch(r"([A-G][#b]?)(\w*)", field(abc, "K"))
    return m21.key.Key(american(found[1]), ABC_MODES[found[2]])


def interval(words):
    """The interval `minor third` or `minor 10th`."""
    quality, number = words.split()
    size = NUMBERS.index(number) + 1 if number in NUMBERS else int(re.sub(r"\D", "", number))
    return m21.interval.Interval(f"{QUALITIES[quality]}{size}")


def value(words):
    """The duration `dotted quarter note` in quarter notes."""
    parts = [part for part in words.split() if part not in ("a", "an", "note", "notes")]
    dots = DOTS[parts[0]] if len(parts) > 1 else 0
    return VALUES[parts[-1].removesuffix("s")] * (2 - Fraction(1, 2**dots))


def signature(words):
    """Sharps in `2 sharps`, less than none in `3 flats` and `Bb, Eb`."""
    if words.startswith("no "):
        return 0
    if words[0].isdigit():
        return int(words.split()[0]) * (1 if "sharp" in words else -1)
    listed = words.split(", ")
    order = [m21.pitch.Pitch(american(name)).name for name in listed]
    sharps = len(listed) if "#" in listed[0] else -len(listed)
    assert [each.name for each in m21.key.KeySignature(sharps).alteredPitches] == order
    return sharps


def test_it_reads_what_it_should():
    assert [each.nameWithOctave for each in rising("E, Ab and C")] == ["E2", "A-2", "C3"]
    assert (interval("minor 10th").semitones, value("a dotted half note"), signature("Bb, Eb")) == (15, 3, -2)
    assert [each.nameWithOctave for each in pitches("L:1/8\nK:D\n| f _f f | f |")] == ["F#5", "F-5", "F-5", "F#5"]
    assert key_shown("L:1/8\nK:Ebdor\nc").sharps == -5


def test_it_refuses_a_wrong_key():
    with pytest.raises(AssertionError):
        check("relative_key", lambda question, abc, option: option.endswith("major"))
