"""Note values: sums, dots, tuplets, broken rhythm."""

import random
from collections.abc import Iterable
from fractions import Fraction
from math import gcd

from musician.music.abc.lexer import write_length
from musician.music.theory.draws import ORDINALS, Draft, drawn, numbers_around, some
from musician.music.theory.notation import UNITS, melody, sheet, write_bar
from musician.music.theory.scale import random_key

VALUE_NAMES = {1: "whole", 2: "half", 4: "quarter", 8: "eighth", 16: "sixteenth", 32: "thirty-second", 64: "64th"}
DOTS = ("", "dotted ", "double-dotted ", "triple-dotted ")
TUPLETS = {1: ((3, 2),), 2: ((3, 2), (5, 4), (6, 4), (2, 3)), 3: ((5, 4), (7, 4), (4, 3), (2, 3), (9, 8), (5, 2))}
"""So many notes in the time of so many."""
BROKEN = {1: (">",), 2: (">", "<"), 3: (">", "<", ">>", "<<")}


def total_of_values(rng: random.Random, difficulty: int) -> Draft:
    """Ask how many short notes last as long as several longer ones."""
    share = rng.choice({1: (8, 16), 2: (16,), 3: (16, 32)}[difficulty])
    every = {(unit, dots): lasting(unit, dots) * share for unit in (1, 2, 4, 8, 16) for dots in range(difficulty)}
    fitting = [value for value, count in every.items() if count.denominator == 1 and count > 1]
    values = [rng.choice(fitting) for _ in range(1 + difficulty + rng.randrange(3))]
    right = int(sum(every[value] for value in values))
    named = ", ".join(f"{DOTS[dots]}{VALUE_NAMES[unit]}" for unit, dots in values)
    stem = f"How many {VALUE_NAMES[share]} notes last as long as these notes in a row: {named}?"
    step = gcd(*(int(every[value]) for value in values))
    return Draft(stem, str(right), numbers_around(right, rng, step, lowest=1))


def dotted_value(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the length of dotted notes, counted in shorter ones or as ABC writes it."""
    unit, dots = rng.choice((1, 2, 4, 8)), rng.randrange(1, 1 + difficulty)
    value, time = f"{DOTS[dots]}{VALUE_NAMES[unit]} note", lasting(unit, dots)
    if rng.random() < 0.4:
        share = drawn(lambda: rng.choice((4, 8, 16, 32, 64)), lambda share: (time * share).denominator == 1)
        count = rng.randrange(1, 13)
        right = int(time * share * count)
        stem = f"How many {VALUE_NAMES[share]} notes last as long as {count} {value}{'s' if count > 1 else ''}?"
        return Draft(stem, str(right), numbers_around(right, rng, int(time * share), lowest=1))
    head = rng.choice(("", "^", "_")) + rng.choice("CDEFGABcdefgab")
    abc_unit = rng.choice(UNITS[3])
    times = [time, *(lasting(unit, other) * factor for other in range(4) for factor in (1, 2, Fraction(1, 2)))]
    options = [head + write_length(each / abc_unit) for each in times]
    stem = f"With L:{abc_unit}, how does ABC write {head} as a {value}?"
    return Draft(stem, options[0], some(options, options[0]))


def tuplet_duration(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the duration of a tuplet or of one of its notes."""
    count, space = rng.choice(TUPLETS[difficulty])
    key, unit, multiple = random_key(rng, difficulty), rng.choice(UNITS[3]), rng.choice((1, 1, 2))
    notes = melody([unit * multiple] * count, key, rng)
    mark = "(3" if (count, space) == (3, 2) else f"({count}:{space}:{count}"
    music = sheet([mark + write_bar(notes, key, unit)], key, unit)
    one = unit * multiple
    if rng.random() < 0.5:
        stem = f"How long does this whole tuplet last, as a share of a whole note?\n{music}"
        return _share(stem, one * space, (one * each for each in (count, space - 1, space + 1, count + 1, 2 * space)))
    stem = f"How long does each note of this tuplet last, as a share of a whole note?\n{music}"
    right = one * Fraction(space, count)
    others = (one * Fraction(each) for ratio in TUPLETS[difficulty] for each in (Fraction(ratio[1], ratio[0]), 1))
    return _share(stem, right, (*others, right / 2, right * 2, right * 4, one * Fraction(count, space)))


def broken_rhythm(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the duration of one of two notes of broken rhythm."""
    sign = rng.choice(BROKEN[difficulty])
    key, unit, multiple = random_key(rng, difficulty), rng.choice(UNITS[3]), rng.choice((1, 2))
    one = unit * multiple
    (first, second), short = melody([one] * 2, key, rng), Fraction(1, 2 ** len(sign))
    place = rng.randrange(2)
    music = sheet([f"{write_bar([first], key, unit)}{sign}{write_bar([second], key, unit)}"], key, unit)
    right = one * ((2 - short) if (place == 0) == (sign[0] == ">") else short)
    stem = f"How long does the {ORDINALS[place]} of these notes last, as a share of a whole note?\n{music}"
    return _share(stem, right, (one * Fraction(eighths, 4) for eighths in (1, 2, 3, 4, 6, 7, 8, 12)))


def lasting(unit: int, dots: int) -> Fraction:
    """Return the duration of a note of 1/`unit` of a whole note with so many dots."""
    return Fraction(1, unit) * (2 - Fraction(1, 2**dots))


def _share(stem: str, right: Fraction, wrong: Iterable[Fraction]) -> Draft:
    return Draft(stem, str(right), some((str(each) for each in wrong if each > 0), str(right)))


TOPICS = (total_of_values, dotted_value, tuplet_duration, broken_rhythm)
