"""Preparing by the tasks of datatrove: real processes, and the bytes of a run without it."""

import os

import pytest

from musician.data.quality.filters import Quality
from musician.data.sources.source import RowSource
from musician.data.store import prepare as module
from musician.data.store import shards, workers
from musician.data.store.cluster import Datatrove
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import read_meta
from musician.runtime.errors import UserError

from .oracles import write_jsonl

ROWS = [{"text": f"row {number % 35_000}"} for number in range(40_000)]


def content(directory):
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_the_shares_of_all_ranks_are_the_whole_work(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    rows = RowSource(write_jsonl(tmp_path / "r.jsonl", ROWS[:45])).rows
    made = []

    def share_of(rank):
        def work(shard, folder):
            made.append((rank, folder.name, len(shard)))

        workers.work_on_shards(rows(), work, tmp_path, 1, rank, 3)

    for rank in range(3):
        share_of(rank)
    assert sorted(made) == [(0, "00000", 10), (0, "00003", 10), (1, "00001", 10), (1, "00004", 5), (2, "00002", 10)]


@pytest.mark.slow
def test_two_workers_of_datatrove_write_the_bytes_of_one_process(byte_renderer, tmp_path, monkeypatch, capfd):
    """Three shards, sketches too; the engine leaves nothing for this process to do."""
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", ROWS))
    recipe = Recipe(64, quality=Quality(exact=True))
    alone = prepare(source, byte_renderer, recipe, tmp_path / "alone")

    here, write = os.getpid(), module.write_shard

    def write_elsewhere(*arguments, **keywords):
        assert os.getpid() != here, "a shard was made here"
        write(*arguments, **keywords)

    monkeypatch.setattr(module, "write_shard", write_elsewhere)
    together = prepare(source, byte_renderer, recipe, tmp_path / "together", engine=Datatrove(tasks=3, workers=2))
    assert content(together) == content(alone)
    assert read_meta(together)["dropped"] == {"exact copy": 5_000}
    assert [entry.name for entry in (tmp_path / "together").iterdir()] == [together.name]


@pytest.mark.slow
def test_an_unreadable_row_ends_the_engine_with_one_line(byte_renderer, tmp_path, capfd):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [*ROWS[:3], {"body": "not"}]))
    with pytest.raises(UserError, match=r"r\.jsonl line 4: no column 'text'"):
        prepare(source, byte_renderer, Recipe(64), tmp_path / "d", engine=Datatrove())
    assert list((tmp_path / "d").iterdir()) == []
