"""Letters read from written answers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.benchmarks.multiple_choice.answers import KINDS, Parsed, parse_answer

OPTIONS = ("Perfect fifth", "D major", "B minor", "Minor sixth.")

READ = {
    "Answer: B": ("B", "answer"),
    "answer:  **B**": ("B", "answer"),
    "The answer is B": ("B", "answer"),
    "The correct answer would be option (B) because it is.": ("B", "answer"),
    "The answer is B, because": ("B", "answer"),
    "**Answer: C**": ("C", "answer"),
    "The answer is: B. D major": ("B", "answer"),
    "A. is tempting, but the answer is C.": ("C", "answer"),
    " B": ("B", "leading"),
    "B. D major": ("B", "leading"),
    "(B)": ("B", "leading"),
    "C) is right": ("C", "leading"),
    "\\boxed{D}": ("D", "leading"),
    "I choose option C.": ("C", "option"),
    "It must be (C) here": ("C", "bracket"),
    "I think:\nB. D major\nas said": ("B", "line"),
    "perfect  FIFTH": ("A", "text"),
    "It is a perfect fifth": ("A", "text"),
    "The answer is D major": ("B", "text"),
    "A minor sixth": ("D", "text"),
}


@pytest.mark.parametrize("answer", READ)
def test_an_answer_is_read(answer):
    assert parse_answer(answer, OPTIONS) == Parsed(*READ[answer])


def test_every_kind_has_an_example():
    assert {kind for _, kind in READ.values()} == set(KINDS)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I do not know",
        "A fine question",
        "The answer is D minor",
        "The answer is C# minor",
        "The answer is B-flat",
        "The answer is A, C and E",
        "Answer: C sharp",
        "It is not (A) but perhaps (C)",
        "a perfect fifth or a minor sixth",
        "Dminor",
    ],
)
def test_names_of_keys_articles_and_undecided_answers_are_not_read(answer):
    assert parse_answer(answer, OPTIONS) is None


def test_texts_that_are_part_of_others_or_differ_in_case_alone():
    assert parse_answer("an augmented fifth", ("fifth", "augmented fifth", "sixth", "third")).letter == "B"
    chords = ("ii - V - I", "II - V - I", "ii", "II")
    assert [parse_answer(chord, chords).letter for chord in chords] == ["A", "B", "C", "D"]
    assert parse_answer("I hear AB", ("AB", "ABC", "ABD", "ABCD")).letter == "A"
    assert parse_answer("I hear A", ("A", "I", "F", "G")) is None


def test_reasoning_is_read_from_its_end():
    thought = "A. looks right, so the answer is A?\nNo: (B) it is.\nAnswer: C"
    assert parse_answer(thought, OPTIONS, reasoning=True) == Parsed("C", "answer")
    assert parse_answer("(A) no. (B) no.\n**D**", OPTIONS, reasoning=True) == Parsed("D", "leading")
    assert parse_answer("A. a fifth\nB. a key\nso I stop", OPTIONS, reasoning=True) is None


@given(st.text(alphabet="ABCD answer:is(*).\n_", max_size=60))
def test_any_text_is_read_or_not(text):
    parsed = parse_answer(text, OPTIONS, reasoning=len(text) % 2 == 0)
    assert parsed is None or (parsed.letter in "ABCD" and parsed.kind in KINDS)


def test_blanks_without_end_cost_no_time():
    started = time.perf_counter()
    for filler in (" ", "_", "\n", "*", "answer: ", "("):
        parse_answer("The answer is" + filler * 20_000, OPTIONS)
    assert time.perf_counter() - started < 3
