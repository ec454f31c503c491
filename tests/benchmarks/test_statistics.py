import math

import pytest

from musician.benchmarks.statistics import accuracy, letter_histogram, macro, wilson


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


def test_histogram_names_all_letters_and_skips_missing_predictions():
    assert letter_histogram(["A", "A", "D", None]) == {"A": 2, "B": 0, "C": 0, "D": 1}


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
