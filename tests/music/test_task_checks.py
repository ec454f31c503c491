"""Every task made is proved from its two texts, and the proof notices a wrong answer."""

import re
from itertools import pairwise

import pytest

from musician.data.sources.corpus import iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.tasks.checks import CHECKS, check, check_conversation
from musician.music.tasks.conversation import make_conversation
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.task import Task

CHORD_TASKS = ("chords_to_tune", "harmonised")
WITH_CHORDS = """X:1
T:With chords
M:4/4
L:1/8
K:G
|:"G"GABc d2g2|"C"e2c2 "G"d4|"D7"fgaf d2f2|"G"g4 g4:|
|:"Em"g2e2 "Am"c2e2|"D"d2f2 a2f2|"G"gfed "C"cBAG|"D7"A2F2 "G"G4:|"""


@pytest.fixture(scope="module")
def tasks(corpus_sample: list[str]) -> list[Task]:
    texts = [*corpus_sample[::3], WITH_CHORDS]
    return [task for index, text in enumerate(texts) for task in make_tasks(text, seed=index)]


def test_every_kind_is_proved_and_nearly_every_answer(tasks: list[Task]) -> None:
    """What is not proved is the fault of the tune: its second half does not add up, or its header ends early."""
    assert list(CHECKS) == list(RULES)
    assert set(RULES) - {task.name for task in tasks} <= {"style", "variation"}
    unproved = [f"{task.name}: {reason}" for task in tasks if (reason := check(task))]
    assert set(unproved) <= {"continuation: the bars no longer add up", "form_to_tune: another beginning"}
    assert len(unproved) < len(tasks) / 500


@pytest.mark.parametrize("name", sorted(set(CHECKS) - {"motifs", "variation", "style"}))
def test_an_answer_to_another_tune_is_not_proved(tasks: list[Task], name: str) -> None:
    """Answers of one kind, handed round among tunes: nearly all of them are then wrong."""
    of_kind = [task for task in tasks if task.name == name]
    halved = [Task(name, task.prompt, task.answer[: len(task.answer) // 2]) for task in of_kind]
    others = of_kind[1:] + of_kind[:1] if len(of_kind) > 1 else halved
    swapped = [Task(name, a.prompt, b.answer) for a, b in zip(of_kind, others, strict=True) if a.answer != b.answer]
    found = [check(task) for task in swapped]
    assert sum(reason is not None for reason in found) >= (
        0.3 if name in ("terms_only", "terms_to_tune") else 0.7
    ) * len(found)
    assert any(found)


def test_chords_asked_for_are_chords_written(tasks: list[Task]) -> None:
    (task,) = [task for task in tasks if task.name == "chords_to_tune"]
    assert task.prompt.split("\n")[1] == "G, C, G, D7, G, Em, Am, D, G, C, D7, G"
    (task,) = [task for task in tasks if task.name == "harmonised"]
    assert '"' not in task.prompt
    assert re.sub(r'"[^"]*"', "", task.answer) in task.prompt


def test_tunes_with_chords_give_both_chord_tasks(corpus_sample: list[str]) -> None:
    """Nottingham's as music21 has them, josquin's, and such as the rule has made."""
    real = [tune.text for tune in iter_tunes(["nottingham-dataset", "josquin"])]
    made = [
        task.answer for text in corpus_sample[::12] for task in make_tasks(text, 0) if task.name == "harmonised_by_rule"
    ]
    found = [[task for task in make_tasks(text, 0) if task.name in CHORD_TASKS] for text in [*real, *made]]
    assert all(len(tasks) == 2 for tasks in [*found[:2], *found[len(real) :]])
    assert sum(len(tasks) for tasks in found[: len(real)]) == 18
    assert [reason for tasks in found for task in tasks if (reason := check(task))] == []
    assert all(len(asked_chords(tasks[0])) >= 4 for tasks in found if tasks)


def asked_chords(task: Task) -> list[str]:
    return task.prompt.split("\n")[1].split(", ")


def test_a_rule_made_harmony_takes_the_triad_that_holds_most() -> None:
    text = "X:1\nM:4/4\nL:1/4\nK:C\nCEGC|FAcF|GBdG|CDEF|"
    (task,) = [task for task in make_tasks(text, 0) if task.name == "harmonised_by_rule"]
    assert re.findall(r'"([^"]*)"', task.answer) == ["C", "F", "G", "C"]
    minor = "X:1\nM:4/4\nL:1/4\nK:Am\nAceA|DFAD|E^GBE|"
    (task,) = [task for task in make_tasks(minor, 0) if task.name == "harmonised_by_rule"]
    assert re.findall(r'"([^"]*)"', task.answer) == ["Am", "Dm", "E"]


def test_a_chord_stands_behind_grace_notes_and_before_all_else() -> None:
    text = 'X:1\nM:4/4\nL:1/4\nK:C\n{d}(CEG)c|(.F!trill!A)cF|[1 {/fe}T[GB]BdG:|[2 ">"z~C2E|'
    (task,) = [task for task in make_tasks(text, 0) if task.name == "harmonised_by_rule"]
    expected = '{d}"C"(CEG)c|"F"(.F!trill!A)cF|[1 {/fe}"G"T[GB]BdG:|[2 "C"">"z~C2E|'
    assert task.answer.split("\n")[-1] == expected
    assert check(task) is None


def test_a_planted_error_is_the_only_one(corpus_sample: list[str]) -> None:
    found = [task for index, text in enumerate(corpus_sample[::3]) for task in make_tasks(text, index)]
    repairs = [task for task in found if task.name == "repaired"]
    assert len(repairs) > 10
    for task in repairs:
        place = int(re.match(r"Bar (\d+)", task.answer)[1]) - 1
        bar = parse_tune(task.prompt[task.prompt.index("X:") :]).bars[place]
        assert bar.duration > bar.meter.duration or place in (0, 1)
        assert bar.text not in task.answer


@pytest.fixture(scope="module")
def talks(corpus_sample: list[str]) -> list[list[Task]]:
    texts = corpus_sample[::4]
    found = [talk for index, text in enumerate(texts) if (talk := make_conversation(text, index))]
    assert len(found) > 0.8 * len(texts)
    return found


def test_every_turn_of_a_conversation_is_proved(talks: list[list[Task]]) -> None:
    """What is said after a change is said of the changed tune, and a turn of another conversation is noticed."""
    assert {turn.name for talk in talks for turn in talk} == {
        *("text_to_abc", "transposed", "unit_changed", "harmonised_by_rule"),
        *("form_terms", "motifs", "key_of_tune", "description"),
    }
    assert [reason for talk in talks if (reason := check_conversation(talk))] == []
    assert all(2 <= len(talk) <= 4 and len({turn.name for turn in talk}) == len(talk) for talk in talks)
    mixed = [[one[0], *other[1:]] for one, other in pairwise(talks)]
    assert sum(check_conversation(talk) is not None for talk in mixed) > 0.9 * len(mixed)
