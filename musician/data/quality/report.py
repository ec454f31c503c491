"""What a prepared directory holds, in numbers: `report.json`, drawn by `musician.data.quality.report_page`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.packing_plan import planned_rows
from musician.data.quality.known_questions import split_music
from musician.data.rendering.encode import Encoder
from musician.data.rendering.render import Renderer
from musician.data.store.prepared import read_meta
from musician.data.store.split import KEPT, PreparedSplit
from musician.music.abc.reader import Tune, parse_tune
from musician.music.analysis.form import section_bars

PERCENTILES = (5, 25, 50, 75, 95)
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


def distribution(values: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """Mean, percentiles and histogram of some numbers."""
    counts, _ = np.histogram(values, edges)
    return {
        "mean": round(float(values.mean()), 3),
        "smallest": round(float(values.min()), 3),
        "largest": round(float(values.max()), 3),
        "percentiles": {str(p): round(float(np.percentile(values, p)), 3) for p in PERCENTILES},
        "histogram": {"edges": [round(float(edge), 4) for edge in edges], "counts": counts.tolist()},
    }


def _split(split: PreparedSplit, capacity: int) -> dict[str, Any]:
    rows = planned_rows(split, capacity)
    filled = rows.sums(split.lengths) / capacity
    lengths = np.asarray(split.lengths)
    return {
        "documents": len(split),
        "tokens": int(lengths.sum(dtype=np.int64)),
        "supervised_tokens": int(np.sum(split.supervised_counts(), dtype=np.int64)),
        "lengths": distribution(lengths, np.unique(np.geomspace(lengths.min(), lengths.max() + 1, 41).round())),
        "packing": {
            "capacity": capacity,
            "rows": len(rows),
            "fill": round(float(filled.mean()), 6),
            "documents_a_row": round(len(split) / len(rows), 2),
            "fill_of_rows": distribution(filled, np.linspace(0, 1, 41)),
        },
    }


def _families(folder: Path) -> np.ndarray:
    file = folder / "families.npy"
    return np.load(file) if file.is_file() else np.zeros(0, np.uint64)


def _sizes(families: np.ndarray) -> dict[str, Any]:
    """How many documents stand together."""
    _, sizes = np.unique(families, return_counts=True)
    number, count = np.unique(sizes, return_counts=True)
    return {
        "families": len(sizes),
        "largest": np.sort(sizes)[::-1][:10].tolist(),
        "families_of_size": dict(zip(map(str, number.tolist()), count.tolist(), strict=True)),
    }


def _kept(folder: Path) -> dict[str, dict[str, int]]:
    """The most frequent values of each kept column, and how many documents have none."""
    import pyarrow.parquet as pq

    file = folder / KEPT
    table = pq.read_table(file).to_pydict() if file.is_file() else {}
    return {
        name: _top(Counter(value if value is not None else "(none)" for value in values), MOST_VALUES)
        for name, values in table.items()
    }


def _top(counts: Counter[str], most: int) -> dict[str, int]:
    """The most frequent, and what the others are together."""
    top = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])
    rest = counts.total() - sum(top.values())
    return top | ({"(others)": rest} if rest else {})


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
    return result | {
        "keys": _counted(tunes, lambda tune: tune.key.name),
        "meters": _counted(tunes, lambda tune: str(tune.meter or "free")),
        "sections": _counted(tunes, lambda tune: str(len(section_bars(tune)))),
        "tokens_per_bar": _tokens_per_bar(texts, tunes, renderer),
    }


def _counted(tunes: Iterable[Tune], name: Callable[[Tune], str]) -> dict[str, int]:
    return dict(Counter(map(name, tunes)).most_common())


def _tokens_per_bar(texts: Sequence[str], tunes: Sequence[Tune], renderer: Renderer) -> dict[str, Any]:
    """Tokens of a tune, header and all, to each of its bars."""
    lengths = [len(ids) for ids in Encoder(renderer.tokenizer)(texts)]
    shares = [length / len(tune.bars) for length, tune in zip(lengths, tunes, strict=True) if tune.bars]
    values = np.array(shares or [0.0])
    return distribution(values, np.linspace(0, max(1.0, float(np.percentile(values, 99))), 41))


def _sample(split: PreparedSplit, renderer: Renderer, document: int) -> dict[str, Any]:
    """A document as it is trained on: runs of text, and whether they are supervised."""
    ids, supervised = split.input_ids(document).tolist(), split.supervised(document).tolist()
    runs = groupby(zip(ids, supervised, strict=True), key=lambda pair: pair[1])
    parts = [(wanted, [token for token, _ in run]) for wanted, run in runs]
    decode = renderer.tokenizer.decode
    segments = [{"supervised": wanted, "text": decode(part, skip_special_tokens=False)} for wanted, part in parts]
    return {"document": document, "tokens": len(ids), "segments": segments}
