"""Rows of one file, by format; an unreadable row is named by file and line."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musician.errors import UserError
from musician.music.abc import split_tunes


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it was found.

    Attributes:
        values: its columns.
        where: where it stands, for messages: `file.jsonl line 17`.
        family: the tune family it belongs to; None: to be derived from its text.
    """

    values: Mapping[str, Any]
    where: str
    family: str | None = None

    def own_family(self) -> str | None:
        """The family it came with: from its source, or from a column `family`, as `musician.build_tasks` writes it."""
        column = self.values.get("family")
        return self.family or (column if isinstance(column, str) and column else None)


def _json_lines(file: Path) -> Iterator[SourceRow]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                where = f"{file} line {number}"
                yield SourceRow(_json_object(line, where), where)


def _json_array(file: Path) -> Iterator[SourceRow]:
    text = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    if not text.lstrip().startswith(b"["):
        yield from _json_lines(file)
        return
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise UserError(f"data {file}: not valid JSON ({error})") from error
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"data {file} item {index}: expected an object, found {type(row).__name__}")
        yield SourceRow(row, f"{file} item {index}")


def _json_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"data {where}: not valid JSON ({error}); correct or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"data {where}: expected a JSON object, found {type(row).__name__}")
    return row


def _parquet(file: Path) -> Iterator[SourceRow]:
    import pyarrow
    import pyarrow.parquet

    index = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1024):
            for row in batch.to_pylist():
                yield SourceRow(row, f"{file} row {index}")
                index += 1
    except (pyarrow.ArrowException, OSError) as error:  # a damaged page is an OSError
        raise UserError(
            f"data {file} near row {index}: not readable as Parquet ({str(error).splitlines()[0]})"
        ) from error


def _table(delimiter: str) -> Callable[[Path], Iterator[SourceRow]]:
    def read(file: Path) -> Iterator[SourceRow]:
        csv.field_size_limit(1 << 30)
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
            try:
                for row in reader:
                    yield SourceRow(row, f"{file} line {reader.line_num}")
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"data {file} line {reader.line_num + 1}: not readable as CSV ({error})") from error

    return read


def _text_file(file: Path) -> Iterator[SourceRow]:
    yield SourceRow({"text": _utf8(file)}, str(file))


def _abc_file(file: Path) -> Iterator[SourceRow]:
    for index, tune in enumerate(split_tunes(_utf8(file))):
        yield SourceRow({"text": tune}, f"{file} tune {index}")


def _utf8(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"data {file}: not UTF-8 text (byte {error.start}); convert it") from error


#: Reader of each suffix.
READERS: dict[str, Callable[[Path], Iterator[SourceRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".parquet": _parquet,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".txt": _text_file,
    ".abc": _abc_file,
}


def count_rows(file: Path) -> int | None:
    """Rows of a file of JSON lines (blank ones too) or Parquet, found without reading them; None for other formats."""
    if file.suffix.lower() == ".jsonl":
        with file.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    if file.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        with suppress(pyarrow.ArrowException, OSError):  # the reader says what is wrong, and where
            return int(pyarrow.parquet.ParquetFile(file).metadata.num_rows)
    return None
