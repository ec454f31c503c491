import random
import re
from collections import Counter
from fractions import Fraction

import pytest

from musician.music.abc.reader import parse_tune
from musician.music.tasks.questions import TOPICS, pose
from musician.music.theory.items import TheoryItem

SHARPS = {
    "C": 0,
    "G": 1,
    "D": 2,
    "A": 3,
    "E": 4,
    "B": 5,
    "F#": 6,
    "C#": 7,
    "F": -1,
    "Bb": -2,
    "Eb": -3,
    "Ab": -4,
    "Db": -5,
}
LOWER = {"": 0, "m": 3, "dor": 2, "mix": 1, "phr": 4, "lyd": -1, "loc": 5}
VALUES = {
    "sixteenth": 1,
    "eighth": 2,
    "dotted eighth": 3,
    "quarter": 4,
    "dotted quarter": 6,
    "half": 8,
    "dotted half": 12,
}
NAMES = {"second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "seventh": 6, "octave": 7}


@pytest.fixture(scope="module")
def questions(corpus_sample: list[str]) -> list[TheoryItem]:
    rng, tunes = random.Random(3), [parse_tune(text) for text in corpus_sample]
    return [question for topic in TOPICS for tune in tunes if (question := pose(topic, tune, rng))]


def shown(question: TheoryItem, name: str) -> str:
    found = re.search(rf"^{name}:(.*)$", question.stem, re.MULTILINE)
    assert found, question.stem
    return found[1]


def sharps_of(key: str) -> int:
    found = re.fullmatch("([A-G][#b]?)(.*)", key)
    assert found
    circle = {**SHARPS, "G#": 8, "D#": 9, "Gb": -6}
    return circle[found[1]] - LOWER[found[2]]


def total(music: str, unit: Fraction) -> Fraction:
    """Add the lengths up by string surgery: broken rhythm moves time within a pair, so it does not count."""
    triplet = 0
    time = Fraction(0)
    for mark, above, slashes, below in re.findall(r"(\([2-9]|[A-Ga-gz])[',]*(\d*)(/*)(\d*)", music):
        if mark.startswith("("):
            triplet = 3 if mark == "(3" else -99
            continue
        each = Fraction(int(above or 1), int(below) if below else 2 ** len(slashes))
        time += each * (Fraction(2, 3) if triplet > 0 else 1)
        assert triplet >= 0, "only triplets are checked here"
        triplet -= triplet > 0
    return time * unit


def music(question: TheoryItem) -> str:
    return question.stem.rpartition("\n")[2]


def holds(question: TheoryItem, option: str) -> bool:
    """Whether an option answers the question, by code that shares nothing with the package."""
    unit = Fraction(shown(question, "L"))
    if question.topic == "meter":
        bars = [bar for bar in music(question).split("|") if bar.strip()]
        return all(total(bar, unit) == Fraction(option) for bar in bars)
    if question.topic == "key_signature":
        sharps = sharps_of(shown(question, "K"))
        words = "no sharps or flats" if not sharps else f"{abs(sharps)} {'sharp' if sharps > 0 else 'flat'}"
        return option.removesuffix("s") == words.removesuffix("s")
    if question.topic == "interval":
        return interval_holds(question, option)
    if option.isdigit():
        each = 8 if "eighth" in question.stem.partition("\n")[0] else 16
        return total(music(question), unit) * each == int(option)
    missing = Fraction(shown(question, "M")) - total(music(question), unit)
    return missing * 16 == VALUES[re.sub("^an? | note$", "", option)]


def interval_holds(question: TheoryItem, option: str) -> bool:
    letters = "CDEFGAB"
    semitones = (0, 2, 4, 5, 7, 9, 11)
    sharps = sharps_of(shown(question, "K"))
    order = "FCGDAEB"
    places, sounds, altered = [], [], {}
    for accidental, letter, marks in re.findall(r"([_^=]*)([A-Ga-g])([',]*)", music(question))[:2]:
        name = letter.upper()
        octave = letter.islower() + marks.count("'") - marks.count(",")
        signature = (name in order[:sharps]) if sharps >= 0 else -(name in order[sharps:])
        if accidental:
            altered[name] = accidental.count("^") - accidental.count("_")
        places.append(7 * octave + letters.index(name))
        sounds.append(12 * octave + semitones[letters.index(name)] + altered.get(name, signature))
    letters_apart, semitones_apart = abs(places[1] - places[0]), abs(sounds[1] - sounds[0])
    quality, number = option.split()
    base = (*semitones, 12)[NAMES[number]]
    excess = {"perfect": 0, "major": 0, "minor": -1, "augmented": 1, "diminished": -1}[quality]
    return letters_apart == NAMES[number] and semitones_apart == base + excess


def test_one_option_alone_is_right(questions: list[TheoryItem]) -> None:
    for question in questions:
        if re.search(r"\([24-9]", question.stem):
            continue
        assert [holds(question, option) for option in question.options] == [
            place == question.answer for place in range(4)
        ], question


def test_options_differ_and_every_topic_is_asked(questions: list[TheoryItem]) -> None:
    assert all(len(set(question.options)) == 4 for question in questions)
    assert min(Counter(question.topic for question in questions)[topic] for topic in TOPICS) > 40
    assert all(question.stem.count("|") <= 5 for question in questions)


def test_the_meter_is_not_given_away(questions: list[TheoryItem]) -> None:
    assert not any("M:" in question.stem for question in questions if question.topic == "meter")


def test_the_right_option_stands_anywhere(questions: list[TheoryItem]) -> None:
    counts = Counter(question.answer for question in questions)
    assert all(0.2 < counts[place] / len(questions) < 0.3 for place in range(4)), counts
