import math
import random

import pytest

from musician.benchmarks.multiple_choice.question import LETTERS
from musician.benchmarks.multiple_choice.theory import THEORY_HINT, Theory
from musician.runtime.errors import UserError


def accuracy(benchmark, answerer):
    questions = benchmark.questions()
    return sum(answerer(question) == question.answer for question in questions) / len(questions)


def test_topics_are_the_subjects():
    benchmark = Theory(per_topic=2, topics=["wrong_bar", "enharmonic"])
    assert [(q.subject, q.index) for q in benchmark.questions()] == [
        ("wrong_bar", 0),
        ("wrong_bar", 1),
        ("enharmonic", 0),
        ("enharmonic", 1),
    ]
    assert [(s.name, s.subjects) for s in benchmark.subsets] == [
        ("wrong_bar", ("wrong_bar",)),
        ("enharmonic", ("enharmonic",)),
        ("all", ("wrong_bar", "enharmonic")),
    ]


def test_prompt_is_hint_and_question():
    benchmark = Theory(per_topic=1, topics=["triad_quality"])
    question = benchmark.questions()[0]
    options = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, question.options, strict=True))
    assert benchmark.prompt(question) == f"{THEORY_HINT}{question.stem}\n{options}Answer:"


def test_examples_are_of_the_topic_and_never_asked():
    benchmark = Theory(per_topic=30, num_fewshot=3, difficulty=1)
    bare = Theory(per_topic=30, difficulty=1)
    asked = {question.stem for question in benchmark.questions()}
    for question in benchmark.questions()[::7]:
        shown = benchmark._examples[question.subject][:3]
        assert len(shown) == 3
        assert not asked & {example.stem for example in shown}
        prompt = benchmark.prompt(question)
        assert all(f"Answer: {LETTERS[example.answer]}\n\n" in prompt and example.stem in prompt for example in shown)
        assert benchmark.prompt(question, 1).count("Answer:") == 2
        assert benchmark.prompt(question, 0) == bare.prompt(question)


def test_name_tells_what_changes_the_score():
    topics = ["cadence_type"]
    assert Theory(topics=topics).name == "theory"
    assert Theory(topics=topics, num_fewshot=5).name == "theory_5shot"
    assert Theory(topics=topics, difficulty=3).name == "theory_d3"


def test_oracle_and_chance():
    benchmark = Theory(per_topic=40, seed=3)
    number = len(benchmark.questions())
    assert number == 40 * 42
    rng = random.Random(0)
    margin = 2.6 * math.sqrt(0.25 * 0.75 / number)
    assert accuracy(benchmark, lambda question: question.answer) == 1
    assert abs(accuracy(benchmark, lambda question: rng.randrange(4)) - 0.25) < margin
    assert all(accuracy(benchmark, lambda question, place=place: place) == 0.25 for place in range(4))


def test_too_many_questions_are_a_user_error():
    with pytest.raises(UserError, match=r"topic 'key_of_tune' gives only about 0"):
        Theory(topics=["key_of_tune"], tunes=["X:1\nK:C\nCDEF|"])
