"""Accuracy and how sure one can be of it."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from musician.benchmarks.clustering import clustered_standard_error
from musician.benchmarks.question import LETTERS

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers, 0 to 1.

    Attributes:
        value: the accuracy.
        n: questions behind it.
        stderr: its standard error; nan for a single question.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    n: int
    stderr: float
    low: float
    high: float


def accuracy(correct: Sequence[bool], questions: Sequence[Hashable] | None = None) -> Accuracy:
    """Return the share of True with the standard error of a sample mean and a Wilson interval.

    Args:
        correct: whether each answer is right.
        questions: the question behind each answer. One that was asked several times, its options shuffled, is still one
            item of the sample: errors cluster by it, `n` counts it once, and the interval is Wilson's for the number of
            independent answers that would have this standard error.

    Raises:
        ValueError: no answers.
    """
    if not correct:
        raise ValueError("the accuracy of no answers is not defined")
    value = sum(correct) / len(correct)
    n = len(correct) if questions is None else len(set(questions))
    if questions is None or n == len(correct):
        stderr = math.sqrt(value * (1 - value) / (n - 1)) if n > 1 else math.nan
        return Accuracy(value, n, stderr, *wilson(value, n))
    stderr = clustered_standard_error(correct, questions)
    independent = value * (1 - value) / stderr**2 if stderr > 0 else n
    return Accuracy(value, n, stderr, *wilson(value, independent))


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share `value` of `n` (Wilson 1927); it stays within 0 and 1."""
    spread = Z95 * Z95 / n
    centre = (value + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(value * (1 - value) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def macro(parts: Sequence[Accuracy]) -> Accuracy:
    """Return the unweighted mean of accuracies on separate questions.

    The parts are independent, so the variance of their mean is the sum of their variances over the square of their
    number; the interval is the normal one, cut to 0 and 1. One part is returned as it is.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("the mean of no accuracies is not defined")
    if len(parts) == 1:
        return parts[0]
    value = sum(part.value for part in parts) / len(parts)
    stderr = math.sqrt(sum(part.stderr**2 for part in parts)) / len(parts)
    low, high = value - Z95 * stderr, value + Z95 * stderr
    if not math.isnan(stderr):
        low, high = max(0.0, low), min(1.0, high)
    return Accuracy(value, sum(part.n for part in parts), stderr, low, high)


def letter_histogram(letters: Iterable[str | None]) -> dict[str, int]:
    """Count how often each answer letter occurs; a model that always says the same letter shows here."""
    counts = Counter(letters)
    return {letter: counts[letter] for letter in LETTERS}
