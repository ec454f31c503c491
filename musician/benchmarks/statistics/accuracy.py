"""Accuracy and how sure one can be of it, alone and against another model's on the same questions."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from musician.benchmarks.multiple_choice.question import LETTERS
from musician.benchmarks.statistics.clustering import clustered_standard_error

Z95 = 1.959963984540054
Z80 = 0.8416212335729143
"""Normal quantiles: of a two-sided 95 % interval, and of a power of 80 %."""


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


def mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Accuracy:
    """Return the mean of measures, with the number of clusters they come in, and a 95 % interval.

    Truth values have `accuracy`'s interval; else it is the normal one of the clustered standard error.

    Raises:
        ValueError: no values.
    """
    if all(value in (0, 1) for value in values):
        return accuracy([bool(value) for value in values], clusters)
    stderr, value = clustered_standard_error(values, clusters), math.fsum(values) / len(values)
    return Accuracy(value, len(set(clusters)), stderr, value - Z95 * stderr, value + Z95 * stderr)


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


def pooled_stderr(parts: Sequence[Accuracy]) -> float:
    """Return the standard error of the size-weighted mean of accuracies on separate questions.

    `sqrt(sum((n_i - 1) n_i se_i^2) / (N - k) / N)` for k parts of N questions in all: lm-eval's `pooled_sample_stderr`.
    Spread between the parts does not count; that is right where the parts are given, as subjects are.

    Returns:
        nan when every part is a single question.
    """
    total, freedom = sum(part.n for part in parts), sum(part.n - 1 for part in parts)
    if freedom == 0:
        return math.nan
    spread = math.fsum((part.n - 1) * part.n * part.stderr**2 for part in parts if part.n > 1)
    return math.sqrt(spread / freedom / total)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return McNemar's exact two-sided p-value (McNemar 1947; exact form: Cochran 1950).

    Of models equally good, either is the one that is right with probability 1/2 on each question that only one gets
    right: `min(1, 2 sum_{i <= min} C(n, i) / 2^n)`, in integers, for n such questions.
    """
    n, term, tail = only_a + only_b, 1, 0
    for i in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * tail / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order (Holm 1979); each holds whatever the dependence.

    The i-th smallest of m, counted from 0, is multiplied by `m - i`, cut at 1, and never below the one before.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def sign_flip(differences: Sequence[float], resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a sum of paired differences when each might as well have the other sign.

    McNemar's test where all differences that are not 0 are of one size, exact. Else, for weighted questions or those
    asked several times, Fisher's randomisation test with `(1 + hits) / (1 + resamples)` (Phipson and Smyth 2010).
    """
    values = np.asarray(differences, dtype=float)
    largest = np.abs(values).max(initial=0.0)
    if largest == 0:
        return 1.0
    values = np.round(values / largest, 12)
    sizes, counts = np.unique(np.abs(values[values != 0]), return_counts=True)
    if len(sizes) == 1:
        return mcnemar(int((values < 0).sum()), int((values > 0).sum()))
    # Of m differences of one size, the number with a plus sign is binomial.
    pluses = np.random.default_rng(seed).binomial(counts, 0.5, size=(resamples, len(sizes)))
    sums = (2 * pluses - counts) @ sizes
    hits = int((np.abs(sums) >= abs(math.fsum(values)) - 1e-9).sum())
    return (1 + hits) / (1 + resamples)


def ratio_stderr(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the standard error of `sum of x / sum of y` over independent pairs (x, y), by the delta method.

    Nats per token, for instance, of documents (nats, tokens): long ones count for more.

    Returns:
        nan for fewer than two pairs.
    """
    count = len(pairs)
    if count < 2:
        return math.nan
    ratio = math.fsum(x for x, _ in pairs) / math.fsum(y for _, y in pairs)
    residual = math.fsum((x - ratio * y) ** 2 for x, y in pairs)
    return math.sqrt(residual / (count - 1) / count) / (math.fsum(y for _, y in pairs) / count)


def stratified_stderr(strata: Sequence[Sequence[float]]) -> float:
    """Return the standard error of the unweighted mean of the strata's means; nan where a stratum has one value."""
    if min(map(len, strata)) < 2:
        return math.nan
    return math.sqrt(math.fsum(float(np.var(part, ddof=1)) / len(part) for part in strata)) / len(strata)


def paired_bootstrap(strata: Sequence[Sequence[float]], resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the unweighted mean of the strata's means (Efron and Tibshirani 1993, 13).

    A difference for each question, resampled within its stratum; one stratum gives the plain mean. Deviations are
    scaled by `sqrt(n / (n - 1))`, without which small strata look too certain (Rao and Wu 1988).

    Resampling nothing but zeros would give certainty. There, the interval holds every mean for which so many zeros have
    a probability of 5 % or more, in the worst case over the strata.

    Returns:
        nan, nan where a stratum has one value, and not all values are 0.
    """
    smallest = min(map(len, strata))
    if not any(value for part in strata for value in part):
        bound = 1 - 0.05 ** (1 / (smallest * len(strata)))
        return -bound, bound
    if smallest < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for part in strata:
        # Drawing with replacement is drawing how often each value occurs.
        values, counts = np.unique(np.round(part, 12), return_counts=True)
        n = len(part)
        centre = float(counts @ values) / n
        drawn = generator.multinomial(n, counts / n, size=resamples) @ values / n
        means += centre + math.sqrt(n / (n - 1)) * (drawn - centre)
    low, high = np.quantile(means / len(strata), (0.025, 0.975))
    return max(-1.0, float(low)), min(1.0, float(high))


def minimum_detectable_effect(n: int, discordance: float) -> float | None:
    """Return the difference of accuracy that a paired test at 5 % finds with a power of 80 %.

    Solves `sqrt(n) d = z_.975 sqrt(psi) + z_.8 sqrt(psi - d^2)` (Miettinen 1968; Connor 1987), where psi is the share
    of questions on which just one model is right. No difference exceeds psi: where the answer would, it is that of
    psi = d, all such questions falling to one model.

    Returns:
        None where n is so small that not even a difference of 1 is found.
    """
    if n < 4:
        return None
    effect = math.sqrt(discordance) * (Z95 * math.sqrt(n) + Z80 * math.sqrt(n + Z80**2 - Z95**2)) / (n + Z80**2)
    if effect <= discordance and discordance > 0:
        return effect
    low, high = 0.0, 1.0  # n d = (z_.975 + z_.8 sqrt(1 - d))^2: the left side rises with d, the right one falls
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if n * middle < (Z95 + Z80 * math.sqrt(1 - middle)) ** 2 else (low, middle)
    return high
