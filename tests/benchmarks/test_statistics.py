import math
from itertools import product
from statistics import NormalDist, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.benchmarks.statistics.estimate import Z95, accuracy, macro, pooled_stderr, wilson
from musician.benchmarks.statistics.paired import (
    mcnemar,
    minimum_detectable_effect,
    paired_bootstrap,
    sign_flip,
    stratified_stderr,
)


def test_standard_error_is_that_of_a_sample_mean():
    result = accuracy([True] * 30 + [False] * 70)
    assert (result.value, result.n) == (0.3, 100)
    assert result.stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_wilson_interval_against_a_textbook_value():
    assert wilson(0.1, 20) == pytest.approx((0.02786648, 0.30103364), abs=1e-7)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_interval_stays_within_bounds_and_has_width(share):
    low, high = wilson(share, 10)
    assert 0 <= low < high <= 1


def test_macro_counts_each_part_once():
    parts = [accuracy([True] * 90 + [False] * 10), accuracy([False] * 1000)]
    mean = macro(parts)
    assert (mean.value, mean.n) == (0.45, 1100)
    assert mean.stderr == pytest.approx(parts[0].stderr / 2)
    assert mean.low < 0.45 < mean.high
    assert macro(parts[:1]) == parts[0]


def test_one_question_has_no_standard_error():
    assert math.isnan(accuracy([True]).stderr)
    assert math.isnan(macro([accuracy([True]), accuracy([False])]).low)


def test_nothing_has_no_accuracy():
    with pytest.raises(ValueError, match="no answers"):
        accuracy([])
    with pytest.raises(ValueError, match="no accuracies"):
        macro([])


def test_a_question_asked_again_is_no_new_question():
    """Copies of the answers leave the error, n and the interval as they are; they do not shrink with the copies."""
    answers = [True, False, True, True, False, False, True, False, True, True]
    once = accuracy(answers)
    again = accuracy(answers * 5, list(range(10)) * 5)
    assert (again.n, again.value) == (once.n, once.value)
    assert again.stderr == pytest.approx(once.stderr)
    assert again.low < again.value < again.high
    assert again.high - again.low > 0.8 * (once.high - once.low)


def test_answers_that_differ_between_askings_are_averaged_first():
    """With each question right in half of its askings there is no spread between questions."""
    assert accuracy([True, False] * 6, [question for question in range(6) for _ in range(2)]).stderr == 0


def test_pooled_standard_error_is_that_of_the_spread_within_groups():
    """Pooled variance of the answers around their own group's mean, over N: the formula's meaning, from the answers."""
    groups = [[True, False, True], [True] * 5 + [False] * 4, [False] * 6 + [True]]
    within = sum((x - sum(group) / len(group)) ** 2 for group in groups for x in group)
    n = sum(map(len, groups))
    expected = math.sqrt(within / (n - len(groups)) / n)
    assert pooled_stderr([accuracy(group) for group in groups]) == pytest.approx(expected)
    alone = accuracy([True, False, False])
    assert pooled_stderr([alone]) == pytest.approx(alone.stderr)


def test_groups_of_one_question_pool_without_spread():
    assert math.isnan(pooled_stderr([accuracy([True]), accuracy([False])]))
    pair = accuracy([True, False])
    assert pooled_stderr([pair, accuracy([True])]) == pytest.approx(math.sqrt(0.5 / 3))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    """Twice the smaller tail of a fair coin, counted in integers."""
    n, k = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(only_a, only_b) == pytest.approx(expected)
    assert mcnemar(only_a, only_b) == pytest.approx(mcnemar(only_b, only_a))


def test_mcnemar_as_published_and_of_all_of_mmlu():
    """4 against 16: 0.011818 (the exact test of R's `binom.test(4, 20)`)."""
    assert mcnemar(4, 16) == pytest.approx(0.01181793, abs=1e-8)
    assert mcnemar(6800, 7242) == pytest.approx(0.0001977794527, rel=1e-8)
    assert mcnemar(0, 14042) == 0


def test_sign_flip_is_mcnemar_for_equal_sizes_and_the_full_enumeration_for_others():
    assert sign_flip([0.2] * 9 + [-0.2, 0.0]) == pytest.approx(22 / 1024)
    assert sign_flip([0.0, 0.0]) == 1
    values = [3, 1, 1, -0.5, 2, 0, -0.25, 1.5, 0.75]
    sums = [abs(sum(v * s for v, s in zip(values, signs, strict=True))) for signs in product((-1, 1), repeat=9)]
    exact = sum(total >= abs(sum(values)) - 1e-9 for total in sums) / len(sums)
    assert sign_flip(values, resamples=50_000) == pytest.approx(exact, rel=0.1)
    assert sign_flip(values) == sign_flip(values[::-1])


def test_bootstrap_interval_of_many_values_is_the_normal_one():
    values = [1.0] * 300 + [0.0] * 500 + [-1.0] * 200
    low, high = paired_bootstrap([values])
    error = stratified_stderr([values])
    assert error == pytest.approx(stdev(values) / math.sqrt(1000))
    assert (low, high) == pytest.approx((0.1 - Z95 * error, 0.1 + Z95 * error), abs=0.002)
    assert paired_bootstrap([values], seed=1) != (low, high)


def test_bootstrap_of_small_strata_is_as_wide_as_their_spread():
    """Two values a stratum: the plain bootstrap's variance would be half of it."""
    strata = [[0.0, 1.0], [0.0, -1.0]] * 30
    low, high = paired_bootstrap(strata)
    assert high - low == pytest.approx(2 * Z95 * stratified_stderr(strata), rel=0.03)
    assert math.isnan(paired_bootstrap([[0.0, 1.0], [1.0]])[0])


def test_nothing_but_agreement_is_not_certainty():
    low, high = paired_bootstrap([[0.0] * 98])
    assert (1 - high) ** 98 == pytest.approx(0.05)
    assert low == -high
    assert paired_bootstrap([[0.0] * 49, [0.0] * 60]) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "discordance"), [(98, 0.4), (367, 0.35), (14042, 0.25), (98, 0.08), (20, 0.9)])
def test_detectable_effect_has_a_power_of_eighty_percent(n, discordance):
    """By the normal approximation it is made for, and roughly so in the exact test."""
    effect = minimum_detectable_effect(n, discordance)
    psi = max(discordance, effect)
    power = NormalDist().cdf((math.sqrt(n) * effect - Z95 * math.sqrt(psi)) / math.sqrt(max(psi - effect**2, 1e-12)))
    assert power == pytest.approx(0.8, abs=1e-3)
    rng = np.random.default_rng(0)
    shares = [(psi + effect) / 2, (psi - effect) / 2, 1 - psi]
    found = [mcnemar(int(b), int(c)) < 0.05 for b, c, _ in rng.multinomial(n, np.abs(shares), size=400)]
    assert 0.55 < np.mean(found) < 0.9


def test_detectable_effect_shrinks_with_questions_and_grows_with_discordance():
    assert minimum_detectable_effect(98, 0.4) == pytest.approx(0.175, abs=0.005)
    assert minimum_detectable_effect(98, 0.2) < minimum_detectable_effect(98, 0.4) < minimum_detectable_effect(50, 0.4)
    assert minimum_detectable_effect(98, 0.0) == pytest.approx(7.5 / 98, abs=0.005)
    assert minimum_detectable_effect(3, 0.5) is None
