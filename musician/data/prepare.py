"""From rows to a content-addressed directory of token ids."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from musician.atomic import publish_first
from musician.data.conversation import Row, defect, read_row
from musician.data.files import SourceRow
from musician.data.prepared import FORMAT
from musician.data.render import Rendered, Renderer
from musician.data.sources import Source
from musician.data.splits import family_of, is_held_out
from musician.data.tokenizer import smallest_dtype, tokenizer_hash
from musician.errors import UserError
from musician.progress import track

T = TypeVar("T")

#: Rows handed to the tokenizer at once.
BATCH = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the content of a prepared directory, besides source, tokenizer and code.

    Attributes:
        max_length: tokens of the longest item; longer documents are split, longer conversations shortened and counted.
        validation_fraction: share of tune families held out.
        split_seed: which families these are.
        text_field: column of running text.
    """

    max_length: int = 2048
    validation_fraction: float = 0.0
    split_seed: int = 0
    text_field: str = "text"


@dataclass(slots=True)
class Tally:
    """Rows in = rows out + rows dropped, by reason; `cuts` counts shortened rows, `items` what was written."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    supervised: Counter[str] = field(default_factory=Counter)


def prepare(source: Source, renderer: Renderer, recipe: Recipe, root: str | Path) -> Path:
    """Tokenise a source into `root/KEY`, or return that directory at once where it exists.

    The key is a hash of the source's content, the tokenizer, the template, the recipe and this package's own code: a
    change in any of them makes another directory (B14). Written under another name and renamed when whole.

    Raises:
        UserError: an unreadable row, no usable row at all, an unwritable or full disk.
    """
    root = Path(root).expanduser()
    key = content_key(source, renderer, recipe)
    target = root / key
    if (target / "meta.json").is_file():
        return target
    partial = root / f".{key}.{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        tally = _write(source, renderer, recipe, partial)
        meta = _describe(key, renderer, recipe, tally)
        (partial / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True))
        publish_first(partial, target, mark="meta.json")
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose another data.root"
        raise UserError(f"data directory {root}: cannot be written ({error.strerror or error}); {hint}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def content_key(source: Source, renderer: Renderer, recipe: Recipe) -> str:
    """Content address of what `prepare` makes from these."""
    parts = [
        FORMAT,
        source.identity(),
        tokenizer_hash(renderer.tokenizer),
        renderer.identity(),
        [recipe.max_length, recipe.validation_fraction, recipe.split_seed, recipe.text_field],
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def code_version() -> str:
    """Hash of the source files that turn rows into ids."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted([*(package / "data").glob("*.py"), *(package / "music").glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_rows(source: Source, recipe: Recipe) -> Iterator[tuple[SourceRow, Row]]:
    """Understand every row of a source.

    Raises:
        UserError: a row whose columns are not understood, named by where it stands.
    """
    for found in source.rows():
        try:
            yield found, read_row(found.values, recipe.text_field)
        except UserError as error:
            raise UserError(f"data {found.where}: {error}") from error


def _write(source: Source, renderer: Renderer, recipe: Recipe, directory: Path) -> Tally:
    tally = Tally()
    writers = {
        "train": _Writer(directory / "train", renderer),
        "validation": _Writer(directory / "validation", renderer),
    }
    sound = _sound(read_rows(source, recipe), tally)
    for group in _groups(track(sound, "tokenising rows"), BATCH):
        rendered = _render(group, renderer, recipe.max_length)
        for (found, row), items in zip(group, rendered, strict=True):
            held_out = recipe.validation_fraction > 0 and is_held_out(
                found.family or family_of(row), recipe.validation_fraction, recipe.split_seed
            )
            split = "validation" if held_out else "train"
            writers[split].add(items)
            _count(tally, split, items)
    if not tally.items["train"]:
        counts = [*tally.dropped.items(), *([("held out", tally.rows_out)] if tally.rows_out else [])]
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts) or "none found"
        raise UserError(f"data: nothing to train on ({tally.rows_in} rows read: {reasons}); check data.source")
    for split, writer in writers.items():
        writer.finish(keep=bool(tally.items[split]))
    return tally


def _render(group: list[tuple[SourceRow, Row]], renderer: Renderer, max_length: int) -> list[list[Rendered]]:
    """Render a group of rows; an error names the row."""
    try:
        return renderer.render_batch([row for _, row in group], max_length)
    except UserError:
        for found, row in group:
            try:
                renderer.render(row, max_length)
            except UserError as error:
                raise UserError(f"data {found.where}: {error}") from error
        raise


def _sound(rows: Iterable[tuple[SourceRow, Row]], tally: Tally) -> Iterator[tuple[SourceRow, Row]]:
    for found, row in rows:
        tally.rows_in += 1
        reason = defect(row)
        if reason:
            tally.dropped[reason] += 1
        else:
            tally.rows_out += 1
            yield found, row


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _count(tally: Tally, split: str, items: list[Rendered]) -> None:
    tally.items[split] += len(items)
    tally.tokens[split] += sum(len(item.input_ids) for item in items)
    tally.supervised[split] += sum(sum(item.turn_lengths[::2]) for item in items)
    tally.cuts.update({cut for item in items for cut in item.cuts})


def _describe(key: str, renderer: Renderer, recipe: Recipe, tally: Tally) -> dict[str, Any]:
    tokenizer = renderer.tokenizer
    return {
        "format": FORMAT,
        "key": key,
        "tokenizer": str(tokenizer.name_or_path) or type(tokenizer).__name__,
        "tokenizer_hash": tokenizer_hash(tokenizer),
        "vocabulary_size": len(tokenizer),
        "dtype": smallest_dtype(len(tokenizer)),
        "template": renderer.template.name,
        "renderer": renderer.identity(),
        "max_length": recipe.max_length,
        "validation_fraction": recipe.validation_fraction,
        "split_seed": recipe.split_seed,
        "rows_in": tally.rows_in,
        "rows_out": tally.rows_out,
        "dropped": dict(tally.dropped),
        "cuts": dict(tally.cuts),
        "splits": {
            split: {"items": count, "tokens": tally.tokens[split], "supervised_tokens": tally.supervised[split]}
            for split, count in tally.items.items()
        },
    }


class _Writer:
    """Appends rendered items to one split, then leaves a `datasets` directory."""

    def __init__(self, directory: Path, renderer: Renderer) -> None:
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        self._directory = directory
        self._stream = directory.with_suffix(".arrow")
        features = Features(
            {
                "input_ids": List(Value(renderer.dtype)),
                "prompt_length": Value("int32"),
                "turn_lengths": List(Value("int32")),
            }
        )
        self._writer = ArrowWriter(path=str(self._stream), features=features)

    def add(self, items: list[Rendered]) -> None:
        """Append the items of one row."""
        for item in items:
            self._writer.write(
                {
                    "input_ids": item.input_ids,
                    "prompt_length": item.prompt_length,
                    "turn_lengths": list(item.turn_lengths),
                }
            )

    def finish(self, keep: bool) -> None:
        """Close the stream; keep the split only where it holds anything."""
        from datasets import Dataset, disable_progress_bars, enable_progress_bars

        if keep:
            self._writer.finalize()
            disable_progress_bars()
            Dataset.from_file(str(self._stream)).save_to_disk(str(self._directory))
            enable_progress_bars()
        self._writer.close()
        self._stream.unlink(missing_ok=True)
