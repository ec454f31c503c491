"""The content of prepared data, guarded by a golden file: what changes it must raise the format version."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from musician.data.quality.filters import Quality
from musician.data.sources.instructions import TuneTaskSource
from musician.data.sources.source import RowSource, TuneSource
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import FORMAT, read_meta

from .oracles import same_tune_in_g, tune_in_c, write_jsonl

GOLDEN = Path(__file__).with_name("golden.json")


def chat(*turns, system=None):
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": messages + [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]}


def rows(folder):
    """Documents, conversations of each schema, rows to split, shorten, drop and repair."""
    tunes = [tune_in_c(seed) for seed in range(12)]
    prose = "The reel goes round and round, twice through the tune and then the turn, and once more for luck. "
    found = [{"text": text, "licence": "CC0"} for text in tunes]
    found += [{"text": same_tune_in_g(tunes[0], "Copy")}, {"text": tunes[1]}, {"text": " "}, {"text": "x|" * 400}]
    found += [{"text": prose * 4}, {"text": prose * 4 + "Again."}, {"text": "naÃ¯ve M\x84dchen \ufeff"}]
    found += [chat("Write a reel.", tunes[2]), chat("a", "b", "c </s>", "d", system="You write ABC."), chat("a", "")]
    found += [chat("q " * 400, "a"), chat("q", "a" * 700), chat("one", "1 " * 99, "two", "2 " * 99, "three", "3 " * 99)]
    found += [{"instruction": "Human: Harmonise.", "input": f"{tunes[3]} </s> ", "output": f"Assistant: {tunes[4]}"}]
    return RowSource(write_jsonl(folder / "rows.jsonl", found))


def tunes(folder, kind=TuneSource):
    texts = [tune_in_c(seed) for seed in range(20)]
    texts += [same_tune_in_g(text, "Again") for text in texts[:6]]
    (folder / "tunes").mkdir()
    (folder / "tunes" / "all.abc").write_text("\n".join(texts))
    return kind(root=str(folder / "tunes"))


def tune_tasks(folder):
    return tunes(folder, TuneTaskSource)


def digests(directory):
    """Hash of each array of each split, by its name; of the values and their type, not of the file's header."""
    found = {}
    for file in sorted(directory.glob("*/*.npy")):
        values = np.load(file)
        content = f"{values.dtype.str} {values.shape}".encode() + values.tobytes()
        found[f"{file.parent.name}/{file.stem}"] = hashlib.sha256(content).hexdigest()[:16]
    return found


@pytest.mark.parametrize("source", [rows, tunes, tune_tasks])
def test_prepared_data_are_those_of_the_golden_file(source, byte_renderer, tmp_path):
    quality = Quality(exact=True, melody=True, near_text=0.7, repair=True)
    recipe = Recipe(512, 0.3, quality=quality, keep=("licence",))
    directory = prepare(source(tmp_path), byte_renderer, recipe, tmp_path / "data")
    found = digests(directory) | {name: read_meta(directory)[name] for name in ("dropped", "cuts", "repairs")}
    golden = json.loads(GOLDEN.read_text())
    assert golden["format"] == FORMAT, f"FORMAT was raised: put it and the new values into {GOLDEN.name}"
    assert found == golden[source.__name__], (
        "the content of prepared data has changed, so that a cache made before would be read as if it were new: raise "
        f"FORMAT in musician/data/store/prepared.py, then put it and these values into {GOLDEN.name}"
    )
