"""From rows to shards of token ids: each shard is a function of its rows, so who makes it and when does not matter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from musician.data.quality.filters import Quality
from musician.data.quality.repair import repaired
from musician.data.rendering.conversation import Row, defect, read_row
from musician.data.rendering.render import Rendered, Renderer
from musician.data.sources.files import SourceRow
from musician.data.store.columns import Columns
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
    """What decides the content of a prepared directory, besides source, tokenizer and code.

    Attributes:
        max_length: tokens of the longest item; longer documents are split, longer conversations shortened and counted.
        validation_fraction: share of tune families held out.
        split_seed: which families these are.
        text_field: column of running text.
        quality: which rows are dropped as copies or benchmark questions, and whether characters are mended.
        keep: columns whose values are kept beside the tokens, such as a licence.
    """

    max_length: int = 2048
    validation_fraction: float = 0.0
    split_seed: int = 0
    text_field: str = "text"
    quality: Quality = field(default_factory=Quality)
    keep: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """Rows in = rows out + rows dropped, by reason; `cuts`, `repairs` count changed rows, `items` what was written."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    supervised: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, file: Path) -> Tally:
        """The tally of a whole shard."""
        values = json.loads(file.read_text())
        counters = {name: Counter(value) for name, value in values.items() if isinstance(value, dict)}
        return cls(values["rows_in"], values["rows_out"], **counters)

    def add(self, other: Tally) -> None:
        """Count another shard's rows too."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        for name in ("dropped", "cuts", "repairs", "items", "tokens", "supervised"):
            getattr(self, name).update(getattr(other, name))


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
    """Read a row by its columns; return also what was mended in it.

    Raises:
        UserError: columns that are not understood, named by where the row stands.
    """
    mended = frozenset() if found.repair is None else frozenset({found.repair})
    try:
        row = read_row(found.values, recipe.text_field)
    except UserError as error:
        raise UserError(f"data {found.where}: {error}") from error
    if recipe.quality.repair:
        row, faults = repaired(row)
        mended |= faults
    return row, mended


def write_shard(rows: Sequence[SourceRow], renderer: Renderer, recipe: Recipe, directory: Path) -> None:
    """Render the rows of one shard into a directory that is whole or absent.

    It holds `tally.json`, and for each split that got anything the files of `musician.data.store.columns.Columns`.

    Raises:
        UserError: a row that cannot be understood or rendered, named by where it stands.
    """
    tally = Tally()
    columns = {split: Columns(renderer.dtype, recipe.keep) for split in SPLITS}
    sound = list(_sound(rows, recipe, tally))
    for start in range(0, len(sound), BATCH):
        group = sound[start : start + BATCH]
        for (found, row), items in zip(group, _render(group, renderer, recipe.max_length), strict=True):
            family = (found.own_family() or family_of(row)) if recipe.validation_fraction > 0 else None
            held_out = family is not None and is_held_out(family, recipe.validation_fraction, recipe.split_seed)
            columns[SPLITS[held_out]].add(items, found, family)
            tally.cuts.update({cut for item in items for cut in item.cuts})
    for split, made in columns.items():
        if made.prompts:
            tally.items[split] = len(made.prompts)
            tally.tokens[split] = sum(made.lengths)
            tally.supervised[split] = sum(made.supervised)
    write_directory(directory, _writer(tally, columns))


def _writer(tally: Tally, columns: Mapping[str, Columns]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for split in tally.items:
            columns[split].write(folder, split)
        values = {each.name: getattr(tally, each.name) for each in fields(tally)}
        (folder / "tally.json").write_text(json.dumps(values, sort_keys=True))

    return fill


def _sound(rows: Iterable[SourceRow], recipe: Recipe, tally: Tally) -> Iterator[tuple[SourceRow, Row]]:
    for found in rows:
        row, mended = understand(found, recipe)
        tally.rows_in += 1
        reason = defect(row) or found.dropped
        if reason:
            tally.dropped[reason] += 1
        else:
            tally.rows_out += 1
            tally.repairs.update(mended)
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
