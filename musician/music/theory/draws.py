"""Drafts of questions, and the random draws that topics share."""

import random
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeVar

T = TypeVar("T")

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class Draft(NamedTuple):
    """A stem, its right answer and at least three wrong ones."""

    stem: str
    right: str
    wrong: Sequence[str]


def drawn(draw: Callable[[], T], fits: Callable[[T], bool]) -> T:
    """Draw until the result fits."""
    found = draw()
    while not fits(found):
        found = draw()
    return found


def numbers_around(right: int, rng: random.Random, step: int = 1, lowest: int = 0) -> list[str]:
    """Return three numbers beside the right one, `step` apart; its rank among the four tells nothing."""
    below = min(rng.randrange(4), (right - lowest) // step)
    return [str(right + step * place) for place in range(-below, 4 - below) if place]


def split_time(total: Fraction, values: Iterable[Fraction], rng: random.Random) -> list[Fraction]:
    """Return durations, drawn from `values`, that sum to `total`, a multiple of the shortest of them."""
    values = list(values)
    durations: list[Fraction] = []
    while left := total - sum(durations):
        durations.append(rng.choice([value for value in values if value <= left]))
    return durations


def some(names: Iterable[str], right: str) -> list[str]:
    """Return the names without the right one and without repeats, in order."""
    return [name for name in dict.fromkeys(names) if name != right]
