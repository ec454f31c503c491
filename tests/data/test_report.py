"""The report of a prepared directory: its numbers are recounted here, and the page shows them."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from musician.data.packing import pack
from musician.data.quality.filters import Quality
from musician.data.quality.report import measure
from musician.data.quality.report_page import write_report
from musician.data.sources.source import RowSource
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import PreparedData

from .oracles import same_tune_in_g, tune_in_c, write_jsonl


def prepared(rows, renderer, tmp_path, **recipe):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    return prepare(source, renderer, Recipe(512, **recipe), tmp_path / "data")


@pytest.fixture
def tunes(byte_renderer, tmp_path):
    """40 tunes in C, 15 of them in G too, two exact copies, an empty row."""
    originals = [tune_in_c(seed) for seed in range(40)]
    rows = [{"text": text, "licence": "CC0"} for text in originals]
    rows += [{"text": same_tune_in_g(text, "x")} for text in originals[:15]]
    rows += [{"text": originals[0]}, {"text": originals[1]}, {"text": " "}]
    quality = Quality(exact=True)
    return prepared(
        rows, byte_renderer, tmp_path, validation_fraction=0.3, quality=quality, keep=("licence", "language")
    )


def test_the_numbers_are_those_of_the_data(tunes, byte_renderer):
    report = measure(tunes, byte_renderer)
    data = PreparedData(tunes, byte_renderer.tokenizer)
    assert (report["rows_in"], report["rows_out"]) == (58, 55)
    assert report["dropped"] == {"exact copy": 2, "empty text": 1}
    for name, found in report["splits"].items():
        split = data.split(name)
        lengths = [len(split.input_ids(document)) for document in range(len(split))]
        assert found["documents"] == len(lengths) == sum(found["lengths"]["histogram"]["counts"])
        assert found["tokens"] == sum(lengths)
        assert found["lengths"]["median"] == np.median(lengths)
        rows = pack(lengths, 512)
        assert found["packing"]["rows"] == len(rows) == sum(found["packing"]["fill_of_rows"]["histogram"]["counts"])
        assert found["packing"]["fill"] == pytest.approx(sum(lengths) / (512 * len(rows)), abs=1e-6)
    assert sum(found["documents"] for found in report["splits"].values()) == 55


def test_families_stand_together_on_one_side(tunes, byte_renderer):
    report = measure(tunes, byte_renderer)
    sizes = Counter()
    for found in report["families"].values():
        sizes.update(found["families_of_size"])
    assert sizes == {"1": 25, "2": 15}
    assert report["families_in_both_splits"] == 0


def test_music_is_described(tunes, byte_renderer):
    music = measure(tunes, byte_renderer)["music"]
    split = PreparedData(tunes, byte_renderer.tokenizer).split("train")
    assert music["documents_read"] == music["tunes"] == len(split)
    assert set(music["keys"]) == {"C major", "G major"}
    assert sum(music["keys"].values()) == len(split)
    assert music["meters"] == {"free": len(split)}
    assert music["sections"] == {"1": len(split)}
    assert 8 < music["tokens_per_bar"]["mean"] < 20  # eight bars of four notes, and the header


def test_kept_columns_are_counted(tunes, byte_renderer):
    kept = measure(tunes, byte_renderer)["kept"]
    totals = Counter()
    for columns in kept.values():
        assert set(columns) == {"licence"}
        totals.update(columns["licence"])
    assert totals == {"CC0": 40, "(none)": 15}


def test_samples_show_what_is_supervised(byte_renderer, tmp_path):
    chat = [{"role": "user", "content": "q<b>"}, {"role": "assistant", "content": "a"}]
    directory = prepared([{"messages": chat}] * 30, byte_renderer, tmp_path)
    report = measure(directory, byte_renderer)
    assert len(report["samples"]) == 20
    first, second = report["samples"][0]["segments"]
    assert (first["supervised"], second["supervised"]) == (False, True)
    assert first["text"] == " Human: q<b></s> Assistant:"
    assert second["text"] == " a</s>"
    page = write_report(directory, byte_renderer).read_text()
    assert "Human: q&lt;b&gt;&lt;/s&gt; Assistant:<b> a&lt;/s&gt;</b>" in page


@pytest.mark.parametrize("text", ["no music at all", "X:1\nK:C\n"])
def test_the_page_is_written_once_with_or_without_music(text, byte_renderer, tmp_path):
    directory = prepared([{"text": text}], byte_renderer, tmp_path)
    page = write_report(directory, byte_renderer)
    folder = page.parent
    assert {file.name for file in folder.iterdir()} == {"index.html", "report.json", "report.png"}
    assert json.loads((folder / "report.json").read_text())["rows_in"] == 1
    assert Image.open(folder / "report.png").size[0] > 1000
    before = page.stat().st_mtime_ns
    assert write_report(directory, byte_renderer) == page
    assert page.stat().st_mtime_ns == before
    assert PreparedData(directory, byte_renderer.tokenizer).split("train") is not None
