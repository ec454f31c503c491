"""The builder of instruction data: what it writes, counts and refuses."""

import json
from collections import Counter

import pytest

from musician.data.rendering.conversation import defect, read_row
from musician.data.sources.instructions import CONVERSATION, KNOWLEDGE, TaskBuilder, TaskCounts, theory_tasks
from musician.data.sources.source import TuneSource
from musician.music.theory.items import make_items
from musician.runtime.errors import UserError

TUNE = (
    "X:{n}\nT:Tune {n}\nM:4/4\nL:1/8\nK:G\n"
    "|:GABc d2g2|e2c2 d{m}|fgaf d2f2|g4 g4:|\n|:g2e2 c2e2|d2f2 a2f2|gfed cBAG|A2F2 G4:|\n"
)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "tunes.abc").write_text("\n".join(TUNE.format(n=n, m="4" if n else "2B2") for n in range(3)))
    return TuneSource(root=str(tmp_path / "abc"))


@pytest.mark.parametrize("schema", ["messages", "musicpile_sft"])
def test_every_row_can_be_trained_on(source, tmp_path, schema):
    counts = TaskBuilder(source, knowledge_weight=2.0).write(tmp_path / "rows.jsonl", schema)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == counts.made.total()
    assert Counter(row["task"] for row in rows) == counts.made
    assert [reason for row in rows if (reason := defect(read_row(row)))] == []
    assert counts.made[KNOWLEDGE] == 2 * counts.score_rows
    assert (counts.made[CONVERSATION] == 3) is (schema == "messages")
    assert all(row["family"] for row in rows if row["task"] != KNOWLEDGE)


def test_the_same_arguments_make_the_same_rows(source):
    first, again, other = (
        list(TaskBuilder(source, knowledge_weight=0, seed=seed).rows("messages", TaskCounts())) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_what_the_benchmark_asks_is_never_taught():
    taught = {task.prompt for task in theory_tasks(0, 400)}
    for difficulty in (1, 2, 3):
        assert not taught & {item.stem for item in make_items(20, 0, difficulty)}
    assert len(taught) > 1000


def test_tasks_are_chosen_by_name(source):
    counts = TaskCounts()
    rows = list(
        TaskBuilder(source, tasks=["key_of_tune"], conversation_turns=0, knowledge_weight=0).rows("messages", counts)
    )
    assert {row["task"] for row in rows} == {"key_of_tune"}
    with pytest.raises(UserError, match=r"no task 'key_of_tunes'.*key_of_tune"):
        TaskBuilder(source, tasks=["key_of_tunes"])


def test_rows_of_one_tune_stay_on_one_side_when_read_back(source, tmp_path):
    """Though their texts differ: a transposed copy of a training tune must not be held out."""
    from musician.data.sources.source import RowSource

    TaskBuilder(source, knowledge_weight=0).write(tmp_path / "rows.jsonl", "messages")
    found = list(RowSource(str(tmp_path / "rows.jsonl")).rows())
    assert {row.own_family() for row in found} == set(source.families())
    assert len(found) > 30


def test_what_cannot_be_proved_or_is_endless_is_counted(tmp_path):
    """The second half of the first tune lacks a beat; the second tune is one line of half a million notes."""
    body = "CDEF GABc|" * 4 + "CDEF GABc|CDEF GA|CDEF GABc|c8|]"
    (tmp_path / "tunes.abc").write_text(f"X:1\nM:4/4\nL:1/8\nK:C\n{body}\n\nX:2\nM:4/4\nL:1/8\nK:C\n{'C|' * 500_000}\n")
    counts = TaskCounts()
    rows = list(TaskBuilder(TuneSource(root=str(tmp_path)), knowledge_weight=0).rows("messages", counts))
    assert counts.dropped == {"continuation: the bars no longer add up": 1, "tune of over 20,000 characters": 1}
    assert counts.tunes == 2
    assert len(rows) == counts.made.total() > 5
