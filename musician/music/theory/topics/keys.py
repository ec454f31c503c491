"""Key signatures and how keys are related."""

import random

from musician.music.abc.key import Key, named_key
from musician.music.abc.pitch import SHARP_ORDER
from musician.music.theory.draws import Draft, drawn, some
from musician.music.theory.notation import excerpt
from musician.music.theory.scale import MOST_ACCIDENTALS, key_scale, keys, random_key

ALL_MODES = ("maj", "min", "dor", "phr", "lyd", "mix", "loc")


def key_from_signature(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the key of a mode that has a signature."""
    mode = rng.choice(_modes(difficulty))
    key = rng.choice(keys(mode, MOST_ACCIDENTALS[difficulty]))
    other = rng.choice(keys(rng.choice(_modes(max(2, difficulty)))))
    wrong = _near(key, keys(mode))
    if other.mode == key.mode or rng.random() < 0.3:
        shown = rng.choice((signature_in_words(key.sharps), _listed(key)))
        return Draft(f"Which {key.mode} key has a signature of {shown}?", key.name, wrong)
    given = next(each for each in keys(_short(other.mode)) if each.sharps == key.sharps)
    stem = f"Which {key.mode} key has the key signature under which this music is written?"
    return Draft(f"{stem}\n{excerpt(given, difficulty, rng)}", key.name, wrong)


def signature_from_key(rng: random.Random, difficulty: int) -> Draft:
    """Ask how many sharps or flats a key has, or which letters they are."""
    key = random_key(rng, difficulty, _modes(difficulty))
    if rng.random() < 0.3:
        stem = f"How many sharps or flats are in the key signature of {key.name}?"
    else:
        stem = f"How many sharps or flats are in the key signature of this music?\n{excerpt(key, difficulty, rng)}"
    return Draft(stem, signature_in_words(key.sharps), _signatures_beside(key.sharps, rng))


def relative_key(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the relative minor or major."""
    key = random_key(rng, difficulty)
    mode = "min" if key.mode == "major" else "maj"
    right = next(each for each in keys(mode) if each.sharps == key.sharps)
    wrong = [*_near(right, keys(mode)), named_key(key.tonic, mode).name]
    return _about(key, f"the relative {right.mode}", right.name, wrong, rng, difficulty)


def parallel_key(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the parallel minor or major, or for its signature."""
    key, right = drawn(lambda: _parallel(rng, difficulty), lambda pair: abs(pair[1].sharps) <= 7)
    if rng.random() < 0.5:
        names = _signatures_beside(right.sharps, rng)
        what = f"the key signature of the parallel {right.mode}"
        return _about(key, what, signature_in_words(right.sharps), names, rng, difficulty)
    relative = next(each for each in keys(_short(right.mode)) if each.sharps == key.sharps)
    wrong = [relative.name, *_near(right, keys(_short(right.mode)))]
    return _about(key, f"the parallel {right.mode}", right.name, wrong, rng, difficulty)


def closely_related_key(rng: random.Random, difficulty: int) -> Draft:
    """Ask for a key whose signature differs by at most one accidental; the wrong ones differ by two or more."""
    key = random_key(rng, difficulty)
    every = [each for mode in ("maj", "min") for each in keys(mode)]
    close = [each for each in every if abs(each.sharps - key.sharps) <= 1 and each.name != key.name]
    far = [each for each in every if 2 <= _distance(each, key) <= 7 - difficulty]
    what = "a closely related key (one whose signature differs by at most one sharp or flat)"
    return _about(key, what, rng.choice(close).name, [each.name for each in far], rng, difficulty)


def circle_of_fifths(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the key some steps round the circle of fifths."""
    mode = rng.choice(("maj", "min"))
    steps = rng.randrange(1, 2 + difficulty) * rng.choice((-1, 1))
    key = drawn(lambda: random_key(rng, difficulty, (mode,)), lambda key: abs(key.sharps + steps) <= 7)
    right = next(each for each in keys(mode) if each.sharps == key.sharps + steps)
    direction = "clockwise (towards sharps)" if steps > 0 else "counter-clockwise (towards flats)"
    count = f"{abs(steps)} step{'s' if abs(steps) > 1 else ''}"
    what = f"the {mode_name(mode)} key {count} {direction} on the circle of fifths"
    wrong = [each.name for each in keys(mode) if each != right and abs(each.sharps - key.sharps) <= 5]
    return _about(key, what, right.name, wrong, rng, difficulty)


def signature_in_words(sharps: int) -> str:
    """Return `2 sharps`, `1 flat`, `no sharps or flats`."""
    if sharps == 0:
        return "no sharps or flats"
    return f"{abs(sharps)} {'sharp' if sharps > 0 else 'flat'}{'s' if abs(sharps) > 1 else ''}"


def mode_name(mode: str) -> str:
    """Return the name of a mode of `MODES`."""
    return named_key("C", mode).mode


def _about(key: Key, what: str, right: str, wrong: list[str], rng: random.Random, difficulty: int) -> Draft:
    """Ask for something of a key that is named or whose music is shown."""
    if rng.random() < 0.3:
        return Draft(f"The key is {key.name}. Which is {what}?", right, some(wrong, right))
    stem = f"The K: field of this music names its key. Which is {what}?"
    return Draft(f"{stem}\n{excerpt(key, difficulty, rng)}", right, some(wrong, right))


def _modes(difficulty: int) -> tuple[str, ...]:
    return {1: ("maj",), 2: ("maj", "min"), 3: ALL_MODES}[difficulty]


def _short(mode: str) -> str:
    return next(each for each in ALL_MODES if mode_name(each) == mode)


def _near(key: Key, every: list[Key]) -> list[str]:
    """Return the other keys of the list that are near on the circle of fifths or opposite, none that sounds like it."""
    return [
        each.name
        for each in every
        if (each.sharps - key.sharps) % 12 and (abs(each.sharps - key.sharps) <= 3 or each.sharps == -key.sharps)
    ]


def _signatures_beside(sharps: int, rng: random.Random) -> list[str]:
    """Return three signatures next to one; its rank among the four tells nothing."""
    step = rng.choice((1, 2))
    below = drawn(lambda: rng.randrange(4), lambda below: -7 <= sharps - step * below <= 7 - 3 * step)
    return [signature_in_words(sharps + step * place) for place in range(-below, 4 - below) if place]


def _distance(left: Key, right: Key) -> int:
    """Return the steps between two keys on the circle of fifths as it sounds, C sharp and D flat being one."""
    apart = (left.sharps - right.sharps) % 12
    return min(apart, 12 - apart)


def _parallel(rng: random.Random, difficulty: int) -> tuple[Key, Key]:
    key = random_key(rng, difficulty)
    return key, named_key(key.tonic, "min" if key.mode == "major" else "maj")


def _listed(key: Key) -> str:
    """Return the altered letters in the order of the signature, as `F#, C#`."""
    order = SHARP_ORDER if key.sharps > 0 else SHARP_ORDER[::-1]
    altered = {pitch.letter: pitch.name for pitch in key_scale(key) if pitch.alter}
    return ", ".join(altered[letter] for letter in order if letter in altered) or "no sharps or flats"


TOPICS = (key_from_signature, signature_from_key, relative_key, parallel_key, closely_related_key, circle_of_fifths)
