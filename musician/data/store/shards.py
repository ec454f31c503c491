"""From rows to shards of token ids: each shard is a function of its rows, so who makes it and when does not matter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musician.data.quality.filters import Quality
from musician.data.quality.repair import repaired
from musician.data.rendering.conversation import Row, defect, read_row
from musician.data.rendering.render import Rendered, Renderer
from musician.data.sources.files import SourceRow
from musician.data.store.split import SplitWriter
from musician.data.store.splits import family_of, is_held_out
from musician.runtime.atomic import write_directory
from musician.runtime.errors import UserError

#: A shard ends with the row that makes it so many rows, or so many characters of text.
SHARD_ROWS = 16_384
SHARD_CHARACTERS = 1 << 24
#: Rows handed to the tokenizer at once.
BATCH = 512
SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the content of a prepared directory, besides source, tokenizer and format.

    Attributes:
        max_length: tokens of the longest item; longer documents are split, longer conversations shortened and counted.
        validation_fraction: share of tune families held out.
        split_seed: which families these are.
        text_field: column of running text.
        quality: which rows are dropped as copies or benchmark questions, and whether characters are repaired.
        keep: columns whose values are kept beside the tokens, such as a licence.
    """

    max_length: int = 2048
    validation_fraction: float = 0.0
    split_seed: int = 0
    text_field: str = "text"
    quality: Quality = field(default_factory=Quality)
    keep: tuple[str, ...] = ()


def no_counts() -> dict[str, Counter[str]]:
    """Counts of nothing yet: `rows` in and out; rows `dropped`, changed by `cuts` or `repairs`, each by reason."""
    return {name: Counter() for name in ("rows", "dropped", "cuts", "repairs")}


def shards_of(rows: Iterable[SourceRow]) -> Iterator[list[SourceRow]]:
    """Cut a stream of rows into shards, by their number and size alone."""
    shard: list[SourceRow] = []
    characters = 0
    for row in rows:
        shard.append(row)
        characters += _characters(row.values)
        if len(shard) >= SHARD_ROWS or characters >= SHARD_CHARACTERS:
            yield shard
            shard, characters = [], 0
    if shard:
        yield shard


def understand(found: SourceRow, recipe: Recipe) -> tuple[Row, frozenset[str]]:
    """Read a row by its columns; return also what was repaired in it.

    Raises:
        UserError: columns that are not understood, named by the position of the row.
    """
    repairs = frozenset() if found.repair is None else frozenset({found.repair})
    try:
        row = read_row(found.values, recipe.text_field)
    except UserError as error:
        raise UserError(f"data {found.where}: {error}") from error
    if recipe.quality.repair:
        row, faults = repaired(row)
        repairs |= faults
    return row, repairs


def write_shard(rows: Sequence[SourceRow], directory: Path, renderer: Renderer, recipe: Recipe) -> None:
    """Render the rows of one shard into a directory that is complete or absent.

    It holds `counts.json`, and a folder for each split that got anything (`musician.data.store.split`).

    Raises:
        UserError: a row that cannot be understood or rendered, named by its position.
    """
    counts = no_counts()
    splits = {name: SplitWriter(recipe.keep) for name in SPLITS}
    sound = list(_sound(rows, recipe, counts))
    for start in range(0, len(sound), BATCH):
        group = sound[start : start + BATCH]
        for (found, row), items in zip(group, _render(group, renderer, recipe.max_length), strict=True):
            family = (found.own_family() or family_of(row)) if recipe.validation_fraction > 0 else None
            held_out = family is not None and is_held_out(family, recipe.validation_fraction, recipe.split_seed)
            splits[SPLITS[held_out]].add(items, found, family)
            counts["cuts"].update({cut for item in items for cut in item.cuts})

    def fill(folder: Path) -> None:
        for name, split in splits.items():
            if len(split):
                split.write(folder / name)
        (folder / "counts.json").write_text(json.dumps(counts))

    write_directory(directory, fill)


def _sound(
    rows: Iterable[SourceRow], recipe: Recipe, counts: Mapping[str, Counter[str]]
) -> Iterator[tuple[SourceRow, Row]]:
    for found in rows:
        row, repairs = understand(found, recipe)
        counts["rows"]["in"] += 1
        reason = defect(row) or found.dropped
        if reason:
            counts["dropped"][reason] += 1
        else:
            counts["rows"]["out"] += 1
            counts["repairs"].update(repairs)
            yield found, row


def _render(group: Sequence[tuple[SourceRow, Row]], renderer: Renderer, max_length: int) -> list[list[Rendered]]:
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


def _characters(values: Any) -> int:
    """Length of all text in a row."""
    if isinstance(values, str):
        return len(values)
    if isinstance(values, dict | Mapping):  # the first is looked at first, and ten times as fast
        values = values.values()
    return sum(map(_characters, values)) if not isinstance(values, int | float | bool | bytes | type(None)) else 0
