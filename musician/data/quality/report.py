"""The content of a prepared directory in numbers: `report.json`, drawn by `musician.data.quality.report_page`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.packing_plan import planned_rows
from musician.data.rendering.encode import Encoder
from musician.data.rendering.render import Renderer
from musician.data.store.prepared import read_meta
from musician.data.store.split import KEPT, PreparedSplit
from musician.music.abc.extract import split_music
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import section_bars

#: Documents whose music is read, evenly spaced over the training split: a few seconds, whatever the size of the data.
MUSIC_SAMPLE = 1000
SAMPLES = 20
#: Values of a kept column that are listed.
MOST_VALUES = 20


def measure(directory: Path, renderer: Renderer) -> dict[str, Any]:
    """Describe a prepared directory.

    Everything but `music` and `samples` is counted over all documents; `music` says how many it was read from.

    Args:
        directory: what `musician.data.store.prepare.prepare` made.
        renderer: of the tokenizer that it was made with.

    Raises:
        UserError: it is not a prepared directory.
    """
    meta = read_meta(directory)
    splits = {name: PreparedSplit(directory / name, renderer.tokenizer.pad_token_id) for name in sorted(meta["splits"])}
    families = {name: _families(split.directory) for name, split in splits.items()}
    counts = ("rows_in", "rows_out", "dropped", "cuts", "repairs", "max_length", "key", "tokenizer", "template")
    return {
        **{name: meta[name] for name in counts},
        "splits": {name: _split(split, meta["max_length"]) for name, split in splits.items()},
        "families": {name: _sizes(found) for name, found in families.items() if len(found)},
        "families_in_both_splits": len(np.intersect1d(families["train"], families.get("validation", []))),
        "kept": {name: _kept(split.directory) for name, split in splits.items()},
        "music": _music(splits["train"], renderer),
        "samples": [_sample(splits["train"], renderer, number) for number in _spread(len(splits["train"]), SAMPLES)],
    }


def distribution(values: np.ndarray, upper: float) -> dict[str, Any]:
    """Mean, median, extremes and a histogram from 0 up to a bound."""
    counts, edges = np.histogram(values, bins=40, range=(0, upper))
    found = {"mean": values.mean(), "median": np.median(values), "smallest": values.min(), "largest": values.max()}
    histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
    return {name: round(float(value), 3) for name, value in found.items()} | {"histogram": histogram}


def _split(split: PreparedSplit, capacity: int) -> dict[str, Any]:
    rows = planned_rows(split, capacity)
    filled = rows.sums(split.lengths) / capacity
    return {
        "documents": len(split),
        "tokens": int(split.lengths.sum()),
        "supervised_tokens": int(split.supervised_counts().sum(dtype=np.int64)),
        "lengths": distribution(split.lengths, split.lengths.max()),
        "packing": {
            "capacity": capacity,
            "rows": len(rows),
            "fill": round(float(filled.mean()), 6),
            "documents_a_row": round(len(split) / len(rows), 2),
            "fill_of_rows": distribution(filled, 1),
        },
    }


def _families(folder: Path) -> np.ndarray:
    file = folder / "families.npy"
    return np.load(file) if file.is_file() else np.zeros(0, np.uint64)


def _sizes(families: np.ndarray) -> dict[str, Any]:
    """How many documents are of one family."""
    sizes = np.unique(families, return_counts=True)[1]
    return {
        "families": len(sizes),
        "largest": np.sort(sizes)[::-1][:10].tolist(),
        "families_of_size": _counted(sorted(sizes.tolist())),
    }


def _kept(folder: Path) -> dict[str, dict[str, int]]:
    """The most frequent values of each kept column, and how many documents have none."""
    import pyarrow.parquet as pq

    file = folder / KEPT
    table = pq.read_table(file).to_pydict() if file.is_file() else {}
    counts: dict[str, dict[str, int]] = {}
    for name, values in table.items():
        ranked = Counter("(none)" if value is None else value for value in values).most_common()
        rest = sum(count for _, count in ranked[MOST_VALUES:])
        counts[name] = dict(ranked[:MOST_VALUES]) | ({"(others)": rest} if rest else {})
    return counts


def _spread(number: int, wanted: int) -> list[int]:
    """So many documents, evenly spaced."""
    return sorted({int(place) for place in np.linspace(0, number - 1, min(number, wanted))})


def _text(split: PreparedSplit, renderer: Renderer, document: int) -> str:
    ids = split.input_ids(document).tolist()
    return str(renderer.tokenizer.decode(ids, skip_special_tokens=True))


def _music(split: PreparedSplit, renderer: Renderer) -> dict[str, Any]:
    """Keys, meters, sections and bars of the tunes in a sample of the documents."""
    read = _spread(len(split), MUSIC_SAMPLE)
    found = [split_music(_text(split, renderer, document))[1] for document in read]
    texts = [text for each in found for text in each]
    tunes = [parse_tune(text) for text in texts]
    result: dict[str, Any] = {
        "documents_read": len(read),
        "documents_with_music": sum(bool(each) for each in found),
        "tunes": len(tunes),
    }
    if not tunes:
        return result
    lengths = map(len, Encoder(renderer.tokenizer)(texts))  # header and all
    shares = np.array(
        [length / len(tune.bars) for length, tune in zip(lengths, tunes, strict=True) if tune.bars] or [0]
    )
    return result | {
        "keys": dict(Counter(tune.key.name for tune in tunes).most_common()),
        "meters": dict(Counter(str(tune.meter or "free") for tune in tunes).most_common()),
        "sections": _counted(sorted(len(section_bars(tune)) for tune in tunes)),
        "tokens_per_bar": distribution(shares, max(1.0, np.percentile(shares, 99))),
    }


def _counted(numbers: Iterable[int]) -> dict[str, int]:
    """How often each number occurs, in the order in which they first do."""
    return dict(Counter(map(str, numbers)))


def _sample(split: PreparedSplit, renderer: Renderer, document: int) -> dict[str, Any]:
    """A document as it is trained on: runs of text, and whether they are supervised."""
    ids = split.input_ids(document)
    parts = renderer.read_parts(ids, split.supervised(document))
    segments = [{"supervised": supervised, "text": text} for supervised, text in parts]
    return {"document": document, "tokens": len(ids), "segments": segments}
