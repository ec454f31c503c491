import math
import random

import numpy as np
import pytest

from musician.benchmarks.multiple_choice.calibration import (
    MIN_QUESTIONS,
    Calibration,
    confidences,
    expected_calibration_error,
    rms_calibration_error,
)
from musician.benchmarks.multiple_choice.question import LETTERS

from .test_comparison import record
from .toys import OracleLM, Quiz, evaluate


def answers(n, sharpen=1.0, seed=0):
    """Answers right as often as their confidence says; the scores are then sharpened."""
    rng = random.Random(seed)
    for index in range(n):
        weights = [rng.random() ** 3 + 0.01 for _ in LETTERS]
        logprobs = tuple(math.log(weight / sum(weights)) for weight in weights)
        gold = rng.choices(LETTERS, weights)[0]
        prediction = LETTERS[logprobs.index(max(logprobs))]
        yield record(index, gold=gold, prediction=prediction, logprobs=tuple(sharpen * x for x in logprobs))


def slow_errors(records, sizes):
    """Both errors as their papers define them, one bin after another."""
    rows = []
    for answer in records:
        total = sum(math.exp(x) for x in answer.logprobs)
        rows.append((max(math.exp(x) / total for x in answer.logprobs), answer.correct))
    rows.sort()
    ece = rms = 0.0
    for size in sizes:
        part, rows = rows[:size], rows[size:]
        gap = sum(confidence - correct for confidence, correct in part) / len(part)
        ece += len(part) * abs(gap)
        rms += len(part) * gap * gap
    assert not rows
    return ece / sum(sizes), math.sqrt(rms / sum(sizes))


def test_errors_are_those_of_the_definition():
    records = list(answers(1050, sharpen=3))
    found = Calibration.of(records)
    assert found.n == 1050
    assert found.ece == pytest.approx(slow_errors(records, [105] * 10)[0])
    assert found.rms == pytest.approx(slow_errors(records, [100] * 9 + [150])[1])


def test_honest_confidence_is_calibrated_and_sharpened_confidence_is_not():
    honest, sure = Calibration.of(answers(20000)), Calibration.of(answers(20000, sharpen=4))
    assert honest.ece < 0.015
    assert sure.ece > 0.1
    assert honest.rms < sure.rms / 3


def test_constant_confidence_and_order():
    right = np.array([1.0, 0.0] * 200)
    assert expected_calibration_error(np.full(400, 0.75), right) == pytest.approx(0.25)
    assert rms_calibration_error(np.full(400, 0.75), np.sort(right)) == pytest.approx(0.25)
    records = [*answers(400), *(record(i, i % 3 == 0, logprobs=(-1.0, -1.5, -2.0, -2.0)) for i in range(400, 650))]
    found, again = Calibration.of(records), Calibration.of(random.Random(1).sample(records, len(records)))
    assert (again.ece, again.rms) == pytest.approx((found.ece, found.rms), abs=1e-12)


def test_unnormalised_scores_do_not_overflow():
    assert confidences([[-2000.0, -2000.0, -3000.0, -3000.0]]) == pytest.approx([0.5])


def test_too_few_questions_have_no_calibration_and_it_is_said():
    few = Calibration.of(answers(MIN_QUESTIONS - 1))
    assert (few.n, few.ece, few.rms) == (299, None, None)
    assert str(few) == "not reported: 299 questions, and below 300 it is noise"
    assert few.details() == {"calibration_n": 299}


def test_askings_of_one_question_and_answers_without_a_letter_do_not_make_up_the_number():
    few = list(answers(100))
    assert Calibration.of(few * 5).n == 100
    assert Calibration.of([*few, *(record(i, method="full") for i in range(1000, 1400))]).n == 100
    assert Calibration.of([*few, *(record(i, prediction=None) for i in range(1000, 1400))]).n == 100


def test_an_evaluation_reports_it(tokenizer):
    quiz = Quiz(["4", "1", "22 1"] * 100, [3, 0, 2] * 100)
    details = evaluate(quiz, OracleLM(tokenizer), tokenizer, method="single").details()
    assert details["eval/quiz/calibration_n"] == 300
    assert 0 < details["eval/quiz/ece"] <= details["eval/quiz/rms_calibration_error"] < 1
    few = evaluate(Quiz(["4"], [3]), OracleLM(tokenizer), tokenizer).details()
    assert few["eval/quiz/calibration_n"] == 1
    assert "eval/quiz/ece" not in few
