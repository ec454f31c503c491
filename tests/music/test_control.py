import random

import pytest

from musician.music.abc.reader import parse_tune
from musician.music.edit.transpose import transpose
from musician.music.tasks.control import MEASURES, measure_control
from musician.music.tasks.rules import make_tasks
from musician.music.tasks.task import Task


def test_what_people_wrote_does_what_the_task_asks(corpus_sample):
    seen = set()
    for seed, text in enumerate(corpus_sample[:40]):
        for task in make_tasks(text, seed):
            found = measure_control(task, parse_tune(task.answer))
            seen |= {task.name} if found else set()
            for name in ("meter", "unit", "key", "chords", "form", "melody_kept"):
                assert found.get(f"control/{name}", 1) == 1, (task.name, name)
            for name in ("chords_distance", "melody_distance"):
                assert found.get(f"control/{name}", 0) == 0, (task.name, name)
    assert seen >= {"text_to_abc", "form_to_tune", "terms_to_tune", "terms_only", "harmonised_by_rule"}
    assert seen <= set(MEASURES)


CHORDS = 'X:1\nM:4/4\nL:1/4\nK:C\n"C"CEGc|"G7"GBdf|"C"CEGc|"Am"Acea|\n'


@pytest.mark.parametrize(
    ("asked", "exact", "in_order", "distance"),
    [("C, G7, C, Am", 1, 1, 0), ("C, C, G7, C, Am", 1, 0.8, 1), ("C, F, C, Am", 0, 0.75, 1), ("D, D, D, D", 0, 0, 4)],
)
def test_chords_are_compared_in_order(asked, exact, in_order, distance):
    found = measure_control(Task("chords_to_tune", f"Write.\n{asked}", ""), parse_tune(CHORDS))
    assert found == {
        "control/chords": exact,
        "control/chords_in_order": in_order,
        "control/chords_distance": distance,
    }


def test_a_motif_counts_in_any_key():
    motif = "L:1/8\nM:4/4\nK:D\nDFAd f2ed"
    tune = parse_tune("X:1\nL:1/8\nM:4/4\nK:D\nDFAd f2ed|DFAd f2ed|A8|B8|]\n")
    task = Task("terms_to_tune", f"Write.\nForm: Binary\nMotif:\n{motif}", "")
    here, moved = measure_control(task, tune), measure_control(task, parse_tune(transpose(tune, "F")))
    assert (here["control/motif"], here["control/motif_in_any_key"]) == (1, 1)
    assert (moved["control/motif"], moved["control/motif_in_any_key"]) == (0, 1)
    rng = random.Random(1)
    other = parse_tune("X:1\nL:1/8\nM:none\nK:D\n" + "".join(rng.choice("CDEFGABcdef") for _ in range(60)) + "|")
    assert measure_control(task, other)["control/motif_in_any_key"] == 0
