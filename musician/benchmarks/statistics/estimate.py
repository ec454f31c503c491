"""A mean of measurements with its sampling error: accuracies, ratios, means of independent groups."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of measurements, such as an accuracy from 0 to 1.

    Attributes:
        value: the mean.
        n: independent items behind it, such as questions or tunes; 0 where they are not counted.
        stderr: its standard error; nan where it is not defined.
        low: lower end of the 95 % interval; nan where it is not defined.
        high: upper end.
    """

    value: float
    n: int = 0
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def normal(cls, value: float, n: int, stderr: float) -> "Estimate":
        """Return an estimate with the normal interval of its standard error."""
        return cls(value, n, stderr, value - Z95 * stderr, value + Z95 * stderr)


def accuracy(correct: Sequence[bool], questions: Sequence[Hashable] | None = None) -> Estimate:
    """Return the share of True with the standard error of a sample mean and a Wilson interval.

    Args:
        correct: whether each answer is right.
        questions: the question behind each answer; None: each has its own. A question that was asked several times
            (options shuffled) is one item of the sample: errors cluster by it, `n` counts it once, and the interval is
            Wilson's for the number of independent answers that would have this standard error.

    Raises:
        ValueError: no answers.
    """
    if not correct:
        raise ValueError("the accuracy of no answers is not defined")
    clusters = range(len(correct)) if questions is None else questions
    value, n = sum(correct) / len(correct), len(set(clusters))
    stderr = clustered_standard_error(correct, clusters)
    independent = value * (1 - value) / stderr**2 if n < len(correct) and stderr > 0 else n
    return Estimate(value, n, stderr, *wilson(value, independent))


def mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Return the mean of measurements, with the number of clusters they come in, and a 95 % interval.

    Truth values have the interval of `accuracy`; others the normal one of the clustered standard error.

    Raises:
        ValueError: no values.
    """
    if all(value in (0, 1) for value in values):
        return accuracy([bool(value) for value in values], clusters)
    stderr = clustered_standard_error(values, clusters)
    return Estimate.normal(math.fsum(values) / len(values), len(set(clusters)), stderr)


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share `value` of `n` (Wilson 1927); it stays within 0 and 1.

    `n` need not be a whole number, which scipy's `proportion_ci` requires.
    """
    spread = Z95 * Z95 / n
    centre = (value + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(value * (1 - value) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def macro(parts: Sequence[Estimate]) -> Estimate:
    """Return the unweighted mean of accuracies on separate questions, with a normal interval cut to 0 and 1.

    The parts are independent: the variance of their mean is the sum of their variances over the square of their number.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("the mean of no accuracies is not defined")
    if len(parts) == 1:
        return parts[0]
    value = sum(part.value for part in parts) / len(parts)
    stderr = math.sqrt(sum(part.stderr**2 for part in parts)) / len(parts)
    low, high = np.clip((value - Z95 * stderr, value + Z95 * stderr), 0, 1)  # nan stays nan
    return Estimate(value, sum(part.n for part in parts), stderr, float(low), float(high))


def pooled_stderr(parts: Sequence[Estimate]) -> float:
    """Return the standard error of the size-weighted mean of accuracies on separate questions.

    `sqrt(sum((n_i - 1) n_i se_i^2) / (N - k) / N)` for k parts of N questions in all: lm-eval's `pooled_sample_stderr`.
    Spread between the parts does not count; that is right where the parts are fixed, as subjects are.

    Returns:
        nan when every part is a single question.
    """
    total, freedom = sum(part.n for part in parts), sum(part.n - 1 for part in parts)
    if freedom == 0:
        return math.nan
    spread = math.fsum((part.n - 1) * part.n * part.stderr**2 for part in parts if part.n > 1)
    return math.sqrt(spread / freedom / total)


def clustered_standard_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return the standard error of the mean of `values`, of which those of one cluster may depend on each other.

    The square root of G / (G - 1) * sum over the G clusters of (sum of their deviations)^2, over the number of values
    (Liang and Zeger 1986). With one value a cluster it is the usual s / sqrt(n); copies of the values do not change it.

    Args:
        values: numbers or truth values.
        clusters: the cluster of each.

    Returns:
        nan for a single cluster.

    Raises:
        ValueError: no values, or not one cluster for each.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters")
    centre = math.fsum(values) / len(values)
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - centre
    if len(sums) == 1:
        return math.nan
    scale = len(sums) / (len(sums) - 1)
    return math.sqrt(scale * math.fsum(total * total for total in sums.values())) / len(values)


def ratio_stderr(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the standard error of `sum of x / sum of y` over independent pairs (x, y), by the delta method.

    For example nats per token over documents (nats, tokens): long ones count for more.

    Returns:
        nan for fewer than two pairs.
    """
    count = len(pairs)
    if count < 2:
        return math.nan
    ratio = math.fsum(x for x, _ in pairs) / math.fsum(y for _, y in pairs)
    residual = math.fsum((x - ratio * y) ** 2 for x, y in pairs)
    return math.sqrt(residual / (count - 1) / count) / (math.fsum(y for _, y in pairs) / count)
