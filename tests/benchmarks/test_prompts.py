"""The prompt text, against literal strings of the protocol."""

from musician.benchmarks.prompts import MUSIC_THEORY_HINT, mmlu_hint, prompt_text
from musician.benchmarks.question import Question

FIFTH = Question(
    "mtb",
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
    bone = Question("mmlu", "anatomy", 0, "Which bone?", ("one", "two", "three", "four"), 3)
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
    odd = Question("mmlu", "anatomy", 0, " the set {A} ", ("{B}", " b", "c ", ""), 0)
    assert prompt_text("", [], odd) == " the set {A} \nA. {B}\nB.  b\nC. c \nD. \nAnswer:"
