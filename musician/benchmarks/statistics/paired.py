"""Tests and intervals for two models on the same questions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, sem

from musician.benchmarks.statistics.estimate import Z95

Z80 = 0.8416212335729143
"""Normal quantile of a power of 80 %."""

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """How both runs did on one question.

    Attributes:
        a: share of run A's answers that are right; 0 or 1 unless the question was asked several times.
        b: the same of run B.
        askings: how often it was asked.
    """

    a: float
    b: float
    askings: int = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """Run B against run A on one subset.

    Attributes:
        n: questions.
        a: accuracy of run A.
        b: accuracy of run B.
        low: lower end of the 95 % interval of `b - a`, by paired bootstrap; None where it is not defined.
        high: upper end.
        p_value: of the hypothesis that neither is better.
        test: `mcnemar` (exact), or `sign_flip` where questions differ in weight or were asked several times.
        only_a: questions on which A does better.
        only_b: questions on which B does better.
        detectable: the least true difference that such a comparison finds with a power of 80 %; None if not even 1.
    """

    n: int
    a: float
    b: float
    low: float | None
    high: float | None
    p_value: float
    test: str
    only_a: int
    only_b: int
    detectable: float | None

    @property
    def value(self) -> float:
        """Accuracy of B less that of A."""
        return self.b - self.a

    @property
    def separable(self) -> bool:
        """Whether the difference is more than noise: the interval leaves out 0 and the test rejects at 5 %."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= 0 <= self.high and self.p_value < SIGNIFICANT

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.only_a == self.only_b == 0:
            return "alike: equally right everywhere"
        if self.low is None:
            return "cannot be told: a subject of one question"
        if not self.separable:
            return "not separable from noise"
        return "B is better" if self.value > 0 else "A is better"


def difference(
    strata: Sequence[Sequence[Pair]], macro: bool = False, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Compare two runs on the pairs of some subjects.

    Args:
        strata: the pairs of each subject.
        macro: count each subject once, and resample within it; otherwise each question.
        resamples: of the bootstrap, and of the test where it is not exact.
        seed: of both.
    """
    parts = list(strata) if macro else [list(chain(*strata))]
    pairs = list(chain(*parts))
    gaps = [[pair.b - pair.a for pair in part] for part in parts]
    only_a, only_b = sum(pair.a > pair.b for pair in pairs), sum(pair.b > pair.a for pair in pairs)
    if len(parts) == 1 and all(pair.askings == 1 for pair in pairs):
        test, p_value = "mcnemar", mcnemar(only_a, only_b)
        detectable = minimum_detectable_effect(len(pairs), (only_a + only_b) / len(pairs))
    else:
        weighted = [gap / len(part) for part in gaps for gap in part]
        test, p_value = "sign_flip", sign_flip(weighted, resamples, seed)
        detectable = _defined((Z95 + Z80) * stratified_stderr(gaps)) or None
    low, high = paired_bootstrap(gaps, resamples, seed)
    return Difference(
        n=len(pairs),
        a=math.fsum(math.fsum(pair.a for pair in part) / len(part) for part in parts) / len(parts),
        b=math.fsum(math.fsum(pair.b for pair in part) / len(part) for part in parts) / len(parts),
        low=_defined(low),
        high=_defined(high),
        p_value=p_value,
        test=test,
        only_a=only_a,
        only_b=only_b,
        detectable=detectable,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return McNemar's exact two-sided p-value (McNemar 1947; exact form: Cochran 1950).

    Args:
        only_a: questions that model A alone answers right.
        only_b: questions that model B alone answers right.
    """
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order (Holm 1979); valid under any dependence.

    The i-th smallest of m, counted from 0, is multiplied by `m - i`, cut at 1, and never below the one before. scipy
    has false discovery rates only, and statsmodels is too large a dependency for these lines.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def sign_flip(differences: Sequence[float], resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a sum of paired differences when each could equally have the other sign.

    McNemar's test where all differences that are not 0 are of one size, exact. Else, for weighted questions or those
    asked several times, Fisher's randomisation test with `(1 + hits) / (1 + resamples)` (Phipson and Smyth 2010).
    Differences of one size are drawn together: 1,000 times faster on MMLU than `scipy.stats.permutation_test`.
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


def stratified_stderr(strata: Sequence[Sequence[float]]) -> float:
    """Return the standard error of the unweighted mean of the strata's means; nan where a stratum has one value."""
    if min(map(len, strata)) < 2:
        return math.nan
    return math.hypot(*(float(sem(part)) for part in strata)) / len(strata)


def paired_bootstrap(strata: Sequence[Sequence[float]], resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the unweighted mean of the strata's means (Efron and Tibshirani 1993, 13).

    A difference for each question, resampled within its stratum; one stratum gives the plain mean. Deviations are
    scaled by `sqrt(n / (n - 1))`, without which the interval of small strata is too narrow (Rao and Wu 1988). Counts of
    equal values are drawn, not values: 300 times faster on MMLU than `scipy.stats.bootstrap`.

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
    of questions on which just one model is right. No difference exceeds psi: it is at least d.

    Returns:
        None where n is so small that not even a difference of 1 is found.
    """
    if n < 4:
        return None

    def excess(effect: float) -> float:
        psi = max(discordance, effect)
        return math.sqrt(n) * effect - Z95 * math.sqrt(psi) - Z80 * math.sqrt(psi - effect**2)

    return float(brentq(excess, 1e-12, 1.0))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
