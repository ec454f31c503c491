"""The prompt text, against literal strings of the protocol."""

import pytest

from musician.benchmarks.multiple_choice.prompts import (
    MUSIC_THEORY_HINT,
    checked_style,
    mmlu_hint,
    music_theory_hint,
    prompt_text,
)
from musician.benchmarks.multiple_choice.question import Question
from musician.runtime.errors import UserError

FIFTH = Question(
    "knowledge",
    0,
    "Which interval inverts to a perfect fourth?",
    ("Perfect fifth", "Major third", "Tritone", "Minor sixth"),
    0,
)


def test_zero_shot_music_theory_prompt_is_the_protocol_s():
    assert prompt_text(MUSIC_THEORY_HINT, [], FIFTH) + " A" == (
        "Read the following questions from the four options (A, B, C and D) given in each question. "
        "Choose the best option.\n"
        "Which interval inverts to a perfect fourth?\n"
        "A. Perfect fifth\n"
        "B. Major third\n"
        "C. Tritone\n"
        "D. Minor sixth\n"
        "Answer: A"
    )


def test_mmlu_five_shot_prompt_has_two_spaces_and_blank_lines_between_examples():
    bone = Question("anatomy", 0, "Which bone?", ("one", "two", "three", "four"), 3)
    assert prompt_text(mmlu_hint("high_school_biology"), [bone, FIFTH], bone) == (
        "The following are multiple choice questions (with answers) about  high school biology.\n"
        "\n"
        "Which bone?\nA. one\nB. two\nC. three\nD. four\nAnswer: D\n"
        "\n"
        "Which interval inverts to a perfect fourth?\n"
        "A. Perfect fifth\nB. Major third\nC. Tritone\nD. Minor sixth\nAnswer: A\n"
        "\n"
        "Which bone?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    )


def test_braces_and_outer_spaces_stay_as_they_are():
    odd = Question("anatomy", 0, " the set {A} ", ("{B}", " b", "c ", ""), 0)
    assert prompt_text("", [], odd) == " the set {A} \nA. {B}\nB.  b\nC. c \nD. \nAnswer:"


def test_lm_eval_style_has_one_space_and_strips_the_question_but_not_its_options():
    odd = Question("anatomy", 0, "\n Which bone? ", ("one ", " two", "three", "four"), 3)
    assert prompt_text(mmlu_hint("high_school_biology", "lm_eval"), [odd, FIFTH], odd, "lm_eval") + " D" == (
        "The following are multiple choice questions (with answers) about high school biology.\n"
        "\n"
        "Which bone?\nA. one \nB.  two\nC. three\nD. four\nAnswer: D\n"
        "\n"
        "Which interval inverts to a perfect fourth?\n"
        "A. Perfect fifth\nB. Major third\nC. Tritone\nD. Minor sixth\nAnswer: A\n"
        "\n"
        "Which bone?\nA. one \nB.  two\nC. three\nD. four\nAnswer: D"
    )


def test_lm_eval_style_of_music_theory_bench_has_a_blank_line_below_the_hint():
    assert prompt_text(music_theory_hint("lm_eval"), [], FIFTH, "lm_eval") == (
        "Read the following questions from the four options (A, B, C and D) given in each question. "
        "Choose the best option.\n"
        "\n"
        "Which interval inverts to a perfect fourth?\n"
        "A. Perfect fifth\nB. Major third\nC. Tritone\nD. Minor sixth\nAnswer:"
    )


def test_an_unknown_style_is_refused():
    with pytest.raises(UserError, match=r"unknown prompt style 'lmeval'.*did you mean 'lm_eval'"):
        checked_style("lmeval")
