"""Shards: what is written depends on the rows alone, not on who writes it, how many do, or who was killed meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musician.data.rendering.encode import Encoder
from musician.data.rendering.render import Renderer
from musician.data.sources.source import RowSource
from musician.data.store import shards
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import PreparedData, read_meta
from musician.runtime.errors import UserError

from .oracles import contents, tune_in_c, write_jsonl


def content(directory):
    """Every file of a directory by its name."""
    directory = Path(directory)
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def tune_rows(count):
    return [{"text": tune_in_c(seed) * (1 + seed % 9)} for seed in range(count)]


# --- encoding ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(contents, max_size=4))
def test_the_fast_way_gives_the_ids_of_the_tokenizer(each_tokenizer, texts):
    encoder = Encoder(each_tokenizer)
    expected = encoder.reference(texts) if texts else []
    assert [list(ids) for ids in encoder(texts)] == expected
    assert [ids.tolist() for ids in encoder.arrays(texts)] == expected


@pytest.mark.parametrize(("name", "way"), [("smollm2", "_batch_fast"), ("byte", "_batch_fast"), ("llama2", "_Pieces")])
def test_the_fast_way_is_taken_where_it_is_equal(name, way, request):
    taken = Encoder(request.getfixturevalue(f"{name}_tokenizer"))._fastest()
    assert getattr(taken, "__name__", type(taken).__name__) == way


def test_a_tokenizer_that_does_more_than_its_backend_is_asked_itself(byte_tokenizer):
    class Shouting(type(byte_tokenizer)):
        def __call__(self, texts, **keywords):
            return super().__call__([text.upper() for text in texts], **keywords)

    shouting = Shouting(
        tokenizer_object=byte_tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    assert Encoder(shouting)(["abc"]) == Encoder(byte_tokenizer)(["ABC"])


# --- counts -----------------------------------------------------------------------------------------------------------

TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.sampled_from(["", " ", "q", "long " * 30])}
)
ANY_ROW = st.one_of(
    st.fixed_dictionaries({"text": st.sampled_from(["", "\n", "a", "b " * 400])}),
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=4)}),
    st.fixed_dictionaries({"instruction": st.sampled_from(["", "i"]), "output": st.sampled_from(["", "o" * 90])}),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ANY_ROW, min_size=1, max_size=12), size=st.integers(1, 5), fraction=st.sampled_from([0.0, 0.4]))
def test_rows_in_are_always_rows_out_and_rows_dropped(
    rows, size, fraction, byte_renderer, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(shards, "SHARD_ROWS", size)
    folder = tmp_path_factory.mktemp("counts")
    rows = [*rows, *({"text": f"sound {number}"} for number in range(9))]
    source = RowSource(write_jsonl(folder / "r.jsonl", rows))
    meta = read_meta(prepare(source, byte_renderer, Recipe(256, fraction), folder / "d"))
    assert meta["rows_in"] == len(rows) == meta["rows_out"] + sum(meta["dropped"].values())
    items = sum(split["items"] for split in meta["splits"].values())
    assert items >= meta["rows_out"]
    assert (items > meta["rows_out"]) == ("document" in meta["cuts"])


def test_shards_end_by_rows_or_by_characters(tmp_path, monkeypatch):
    rows = list(RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": "x" * n} for n in (1, 1, 1, 9, 9, 1)])).rows())
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 10)
    assert [[len(row.values["text"]) for row in shard] for shard in shards.shards_of(rows)] == [[1, 1, 1], [9, 9], [1]]


# --- who writes, how many, and a kill ---------------------------------------------------------------------------------

#: Prepares a file as `data/KEY`; small shards, each slowed down where that is asked for.
SCRIPT = """
import sys, time
from musician.data.store import shards, prepare as module
from musician.data.rendering.render import Renderer
from musician.data.sources.source import RowSource
from musician.data.rendering.tokenizer import load_tokenizer

path, root, num_proc, delay = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
shards.SHARD_ROWS = 20
write = module.write_shard

def slowly(*arguments, **keywords):
    time.sleep(delay)
    print("shard", flush=True)
    write(*arguments, **keywords)

module.write_shard = slowly
if __name__ == "__main__":
    renderer = Renderer(load_tokenizer("bytes"))
    print(module.prepare(RowSource(path), renderer, module.Recipe(128, 0.2), root, num_proc))
"""


def start(tmp_path, root, num_proc=1, delay=0.0):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "r.jsonl", root, str(num_proc), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})


def finish(process):
    lines = process.communicate(timeout=300)[0].split("\n")
    assert process.returncode == 0
    return Path(lines[-2]), Counter(lines)["shard"]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_kill_and_a_restart_give_the_bytes_of_an_undisturbed_run(num_proc, tmp_path, byte_tokenizer):
    """kill -9 of real processes; the restart writes only the shards that were not whole."""
    write_jsonl(tmp_path / "r.jsonl", tune_rows(300))
    undisturbed, written = finish(start(tmp_path, tmp_path / "undisturbed"))
    assert written == 15

    root = tmp_path / f"killed-{num_proc}"
    process = start(tmp_path, root, num_proc, delay=0.2)
    while len(list(root.glob(".*/shards/[0-9]*/counts.json"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for worker in workers:  # they end by themselves
        while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
            time.sleep(0.05)
    whole = len(list(root.glob(".*/shards/[0-9]*/counts.json")))
    assert 4 <= whole < 15
    assert [entry.name for entry in root.iterdir() if not entry.name.startswith(".")] == []

    directory, written = finish(start(tmp_path, root))
    assert written == 15 - whole
    assert [entry.name for entry in root.iterdir()] == [directory.name]
    assert content(directory) == content(undisturbed)
    assert len(PreparedData(directory, byte_tokenizer).split("validation")) > 0


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(byte_renderer, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 25)
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", tune_rows(120)))
    recipe = Recipe(128, 0.2)
    one, two = (prepare(source, byte_renderer, recipe, tmp_path / str(n), num_proc=n) for n in (1, 2))
    assert content(one) == content(two)


@pytest.mark.slow
def test_an_error_in_a_worker_names_the_row_and_leaves_nothing(byte_renderer, tmp_path):
    rows = [*tune_rows(3), {"body": "not"}]
    with pytest.raises(UserError, match=r"r\.jsonl line 4: no column 'text'"):
        prepare(RowSource(write_jsonl(tmp_path / "r.jsonl", rows)), byte_renderer, Recipe(64), tmp_path / "d", 2)
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize("name", ["smollm2", "mistral"])
def test_the_ids_on_disk_are_those_of_the_tokenizer(name, tmp_path, request):
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    texts = [row["text"] for row in tune_rows(30)]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": text} for text in texts]))
    directory = prepare(source, Renderer(tokenizer, add_bos=False), Recipe(1 << 14), tmp_path / "d")
    split = PreparedData(directory, tokenizer).split("train")
    for number, text in enumerate(texts):
        plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert split.input_ids(number).tolist() == [*plain, tokenizer.eos_token_id]
