from collections import Counter
from fractions import Fraction

import pytest

from musician.music.abc.key import parse_key
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import sounding_form
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.task import Task


@pytest.fixture(scope="module")
def made(corpus_sample: list[str]) -> list[tuple[str, Task]]:
    return [(text, task) for text in corpus_sample for task in make_tasks(text, seed=1)]


def of(made: list[tuple[str, Task]], name: str) -> list[tuple[str, Task]]:
    return [(text, task) for text, task in made if task.name == name]


RARE = {"style", "variation", "chords_to_tune", "harmonised", "repaired", "form", "form_to_tune"}


def test_every_rule_yields_tasks(made: list[tuple[str, Task]], corpus_sample: list[str]) -> None:
    counts = Counter(task.name for _, task in made)
    assert set(RULES) - set(counts) <= {"chords_to_tune", "harmonised"}, "the corpus has no chord symbols"
    assert min(count for name, count in counts.items() if name not in RARE) > 0.5 * len(corpus_sample)
    assert all(task.prompt.strip() and task.answer.strip() for _, task in made)


def test_a_written_tune_has_what_was_asked(made: list[tuple[str, Task]]) -> None:
    for text, task in of(made, "text_to_abc"):
        asked = dict(line.split(": ", 1) for line in task.prompt.split("\n")[1:])
        tune, source = parse_tune(task.answer), parse_tune(text)
        assert asked["key"] == tune.key.name
        assert Fraction(asked["unit note length"]) == tune.unit
        assert asked["meter"] == str(tune.meter or "free")
        assert asked.get("title", "") == tune.field("T")
        assert list(tune.notes) == list(source.notes)


def test_a_continuation_completes_its_tune(made: list[tuple[str, Task]]) -> None:
    for text, task in of(made, "continuation"):
        start = task.prompt[task.prompt.index("X:1") :]
        assert list(parse_tune(f"{start}\n{task.answer}").notes) == list(parse_tune(text).notes)
        assert 0.35 < len(parse_tune(start).bars) / len(parse_tune(text).bars) <= 0.5


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ("|:A|B|c|d:|:e|f|g|a:|", "AABB"),
        ("A|B|c|d:|e|f|g|a:|", "AABB"),
        ("A|B|c|d||e|f|g|a||A|B|c|d|]", "ABA"),
        ("A|B|c|d::e|f|g|a||", None),
        ("A|B|c|d:|e|f|g|a||", "AAB"),
        ("|:A|B|c|d||e|f|g|a||", None),
        ("|:A|B|c|1d:|2e||e|f|g|a||", None),
        ("A|B|c|d||", None),
        ('A|B|c|d||e|f|g|a"D.C."||', None),
    ],
)
def test_sections(body: str, form: str | None) -> None:
    assert sounding_form(parse_tune(f"X:1\nK:C\n{body}")) == form


def test_keys_and_forms_are_those_of_the_tune(made: list[tuple[str, Task]]) -> None:
    for text, task in of(made, "key_of_tune"):
        assert parse_key(parse_tune(task.prompt[task.prompt.index("X:1") :]).field("K")).name == task.answer
        assert task.answer == parse_tune(text).key.name
    for text, task in [*of(made, "form")]:
        assert task.answer == sounding_form(parse_tune(text))


def test_the_meter_is_asked_without_being_shown(made: list[tuple[str, Task]]) -> None:
    for text, task in of(made, "meter_of_tune"):
        music = task.prompt[task.prompt.index("\nL:") + 1 :]
        assert "M:" not in music
        assert task.answer == str(parse_tune(text).meter)
        assert {bar.duration for bar in parse_tune(music).bars} == {Fraction(task.answer)}


def test_multiple_choice_ends_as_the_benchmarks_do(made: list[tuple[str, Task]]) -> None:
    for _, task in of(made, "multiple_choice"):
        assert task.prompt.endswith("\nAnswer:")
        assert [line[:3] for line in task.prompt.split("\n")[-5:-1]] == ["A. ", "B. ", "C. ", "D. "]
        assert task.answer in set("ABCD")


def test_a_seed_decides(reel: str) -> None:
    assert make_tasks(reel, 1) == make_tasks(reel, 1)
    assert make_tasks(reel, 1) != make_tasks(reel, 2)
    assert make_tasks("no tune at all?"[:0], 1) == []
