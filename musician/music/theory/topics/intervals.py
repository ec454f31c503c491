"""Intervals and transposition."""

import random
from fractions import Fraction

from musician.music.abc.key import Key
from musician.music.abc.pitch import LETTERS, NUMBERS, SEMITONES, Interval, Pitch
from musician.music.theory.chord import spellable
from musician.music.theory.draws import ORDINALS, Draft, drawn, numbers_around, some
from musician.music.theory.notation import EIGHTH, melody, sheet, write_pitches
from musician.music.theory.scale import random_key, random_pitch

NAMED = {
    name: Interval(letters, semitones)
    for letters in range(1, 8)
    for semitones in (range(1, 12) if letters < 7 else (12,))
    if (name := Interval(letters, semitones).name)
}
"""Every interval from a second to an octave with a plain name, but those of no or of twelve semitones in disguise."""
COMMON = tuple(
    name
    for letters, semitones in (
        *((place, SEMITONES[LETTERS[place]] - flat) for place in range(1, 7) for flat in (0, 1)),
        (3, 6),
        (7, 12),
    )
    if (name := Interval(letters, semitones).name) and (letters, semitones) != (3, 4)
)
"""The intervals within the major and minor scales, augmented fourth and diminished fifth included."""
_UNITS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
_EASY = tuple(name for name in COMMON if NAMED[name].semitones != 6)


def neighbours(interval: Interval) -> list[str]:
    """Return the common intervals at most two letters from this one, itself left out: what it is easily taken for."""
    near = [
        Interval(letters, size) for letters in range(interval.letters - 2, interval.letters + 3) for size in range(13)
    ]
    return [name for each in near if (name := each.name) in COMMON and name != interval.name]


def interval_name(rng: random.Random, difficulty: int) -> Draft:
    """Ask which interval two notes form."""
    low, interval = _drawn(rng, difficulty)
    question = f"Which interval do {_shown(low, low.above(interval), difficulty, rng)}"
    return Draft(question, _name(interval), _taken_for(interval, difficulty))


def interval_semitones(rng: random.Random, difficulty: int) -> Draft:
    """Ask how many semitones lie between two notes."""
    low, interval = _drawn(rng, difficulty)
    if rng.random() < 0.3:
        octaves = rng.randrange(difficulty)
        size = interval.semitones + 12 * octaves
        more = f" plus {octaves} octave{'s' if octaves > 1 else ''}" if octaves else ""
        stem = f"How many semitones does the interval of {_article(_name(interval))}{more} span?"
        return Draft(stem, str(size), numbers_around(size, rng))
    stem = f"How large is the interval, in semitones, that {_shown(low, low.above(interval), difficulty, rng)}"
    return Draft(stem, str(interval.semitones), numbers_around(interval.semitones, rng))


def interval_inversion(rng: random.Random, difficulty: int) -> Draft:
    """Ask for an interval's inversion."""
    low, interval = drawn(lambda: _drawn(rng, difficulty), lambda pair: pair[1].letters < 7)
    inverse = Interval(7 - interval.letters, 12 - interval.semitones)
    if rng.random() < 0.1:
        stem = f"What does {_article(_name(interval))} become when it is inverted?"
    else:
        stem = f"What is the inversion of the interval that {_shown(low, low.above(interval), difficulty, rng)}"
    return Draft(stem, _name(inverse), some((*_taken_for(inverse, difficulty), _name(interval)), _name(inverse)))


def compound_interval(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the name of an interval wider than an octave, or for the simple one it is made of."""
    low, simple = drawn(lambda: _drawn(rng, difficulty), lambda pair: pair[0].place < 7 and pair[1].letters < 7)
    octaves = rng.choice((1, 2)) if difficulty == 3 else 1
    wide = Interval(simple.letters + 7 * octaves, simple.semitones + 12 * octaves)
    low = low._replace(place=low.place - 7 * (octaves - 1))
    shown = _shown(low, low.above(wide), difficulty, rng)
    near = _taken_for(simple, difficulty)
    if rng.random() < 0.5:
        return Draft(
            f"To which simple interval does one reduce the compound interval that {shown}", _name(simple), near
        )
    wrong = [compound_name(name, octaves) for name in near]
    return Draft(f"Which compound interval do {shown}", compound_name(_name(simple), octaves), wrong)


def compound_name(simple: str, octaves: int) -> str:
    """Return the name of a simple interval widened by octaves: `minor third` and 1 give `minor 10th`."""
    quality, number = simple.split()
    size = NUMBERS.index(number) + 1 + 7 * octaves
    return f"{quality} {size}{'st' if size == 21 else 'th'}"


def transposed_note(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the note a given interval above or below another; from difficulty 3 on also by spelling alone."""
    low, interval = _drawn(rng, difficulty)
    up = rng.random() < 0.5
    given, right = (low, low.above(interval)) if up else (low.above(interval), low)
    where = f"{_article(_name(interval))} {'above' if up else 'below'}"
    near = [Pitch(right.place + step, alter) for step in (-1, 0, 1) for alter in (-1, 0, 1)]
    wrong = [pitch for pitch in near if pitch != right and (difficulty == 3 or pitch.midi != right.midi)]
    if rng.random() < 0.5:
        stem = f"Which note, spelled correctly, lies {where} {given.full_name}?"
        return Draft(stem, right.full_name, [pitch.full_name for pitch in wrong])
    stem = f"In ABC notation with K:C, which note, spelled correctly, lies {where} {given.abc}?"
    return Draft(stem, right.abc, [pitch.abc for pitch in wrong])


def transposed_motif(rng: random.Random, difficulty: int) -> Draft:
    """Ask for a motif in ABC at another pitch; the wrong options sound different."""
    motif, interval, up = drawn(lambda: _motif(rng, difficulty), lambda found: _movable(*found, difficulty))
    moved = _moved(motif, interval, up)
    wrong = [_moved(motif, NAMED[name], up) for name in (*_taken_for(interval, difficulty), *_EASY)]
    wrong += [[pitch._replace(alter=0) for pitch in moved], _moved(motif, interval, not up)]
    sounding = {tuple(pitch.midi for pitch in each): each for each in wrong if spellable(each, difficulty)}
    sounding.pop(tuple(pitch.midi for pitch in moved), None)
    direction = f"{'up' if up else 'down'} {_article(_name(interval))}"
    stem = f"Which motif is this one, moved {direction}?\n{sheet([_written(motif)], Key())}"
    return Draft(stem, _written(moved), [_written(each) for each in list(sounding.values())[:6]])


def enharmonic(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note sounds like another; the wrong options sound different."""
    most = 2 if difficulty == 3 else 1
    key = random_key(rng, max(2, difficulty), ("maj",))
    notes = [pitch for pitch, _ in melody([EIGHTH] * (2 + difficulty), key, rng) if pitch]
    given, right = drawn(
        lambda: (rng.choice([*notes, _disguised(rng, difficulty)]), _disguised(rng, 3)),
        lambda pair: pair[0].midi == pair[1].midi and pair[0] != pair[1] and abs(pair[1].alter) <= most,
    )
    near = [Pitch(given.place + step, alter) for step in (-2, -1, 0, 1, 2) for alter in range(-most, most + 1)]
    wrong = [pitch for pitch in near if 0 < abs(pitch.midi - given.midi) <= 2]
    if given not in notes or rng.random() < 0.3:
        stem = f"Which note is enharmonically equivalent to {given.full_name}?"
    else:
        stem = f"Which note sounds the same as the {ORDINALS[notes.index(given)]} of these notes (C is C4)?\n"
        stem += sheet([" ".join(write_pitches(notes, key))], key)
    return Draft(stem, right.full_name, [pitch.full_name for pitch in wrong])


def _disguised(rng: random.Random, difficulty: int) -> Pitch:
    """Return a note; at 3 half of them are doubly altered."""
    pitch = random_pitch(rng, max(2, difficulty))
    return pitch._replace(alter=rng.choice((-2, 2))) if difficulty == 3 and rng.random() < 0.5 else pitch


def _drawn(rng: random.Random, difficulty: int) -> tuple[Pitch, Interval]:
    """Return a lower note and an interval above it that can be spelled."""
    pool = {1: _EASY, 2: COMMON, 3: tuple(NAMED)}[difficulty]
    return drawn(
        lambda: (random_pitch(rng, difficulty), NAMED[rng.choice(pool)]),
        lambda pair: spellable([pair[0].above(pair[1])], difficulty),
    )


def _name(interval: Interval) -> str:
    name = interval.name
    assert name is not None
    return name


def _article(name: str) -> str:
    return f"an {name}" if name[0] == "a" else f"a {name}"


def _taken_for(interval: Interval, difficulty: int) -> list[str]:
    """Return the names an interval is easily taken for; at 3 of the rarer ones too."""
    if difficulty < 3:
        return some(neighbours(interval), _name(interval))
    near = [
        name
        for name, each in NAMED.items()
        if abs(each.letters - interval.letters) <= 2 and abs(each.semitones - interval.semitones) <= 2
    ]
    return some(near, _name(interval))


def _shown(low: Pitch, high: Pitch, difficulty: int, rng: random.Random) -> str:
    """Return the end of a question that shows two notes, as names or in ABC."""
    if rng.random() < 0.5:
        return f"{low.full_name} and {high.full_name} form (C4 is middle C)?"
    key = Key() if difficulty == 1 else random_key(rng, difficulty)
    pair = [low, high] if difficulty == 1 or rng.random() < 0.5 else [high, low]
    return f"these two notes form?\n{sheet([' '.join(write_pitches(pair, key))], key, rng.choice(_UNITS))}"


def _motif(rng: random.Random, difficulty: int) -> tuple[list[Pitch], Interval, bool]:
    """Return a motif, and an interval and a direction to move it."""
    pool = {1: ("major second", "perfect fourth", "perfect fifth"), 2: _EASY, 3: COMMON}[difficulty]
    key = random_key(rng, difficulty, ("maj",))
    notes = [pitch for pitch, _ in melody([EIGHTH] * (2 + difficulty), key, rng) if pitch]
    return notes, NAMED[rng.choice(pool)], rng.random() < 0.5


def _moved(motif: list[Pitch], interval: Interval, up: bool) -> list[Pitch]:
    return [pitch.above(interval) if up else pitch.below(interval) for pitch in motif]


def _movable(motif: list[Pitch], interval: Interval, up: bool, difficulty: int) -> bool:
    return spellable(_moved(motif, interval, up), difficulty)


def _written(motif: list[Pitch]) -> str:
    return " ".join(write_pitches(motif, Key()))


TOPICS = (
    interval_name,
    interval_semitones,
    interval_inversion,
    compound_interval,
    transposed_note,
    transposed_motif,
    enharmonic,
)
