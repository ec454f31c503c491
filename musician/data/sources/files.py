"""Rows of one file, by format; an unreadable row is named by file and line."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musician.data.sources.archives import Member
from musician.data.sources.json_array import LONGEST, ArrayReader
from musician.music.abc.reader import split_tunes
from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it was found.

    Attributes:
        values: its columns.
        where: its position, for messages: `file.jsonl line 17`.
        family: the tune family it belongs to; None: to be derived from its text.
        repair: what was done to make it readable; None: nothing.
        dropped: why it is not to be trained on; None: it is, or that is still to be seen.
    """

    values: Mapping[str, Any]
    where: str
    family: str | None = None
    repair: str | None = None
    dropped: str | None = None

    def own_family(self) -> str | None:
        """The family it came with: from its source, or from a column `family`, as `musician.build_tasks` writes it."""
        column = self.values.get("family")
        return self.family or (column if isinstance(column, str) and column else None)


def _json_lines(member: Member) -> Iterator[SourceRow]:
    for number in itertools.count(1):
        line = member.stream.readline(LONGEST)
        if not line:
            return
        where = f"{member.where} line {number}"
        if len(line) == LONGEST:
            raise UserError(f"data {where}: longer than {LONGEST:,} bytes; cut it into rows")
        if line.strip():
            yield SourceRow(_json_object(line, where), where)


def _json_array(member: Member) -> Iterator[SourceRow]:
    if not member.stream.peek(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _json_lines(member)
        return
    index = 0
    try:
        for index, row in enumerate(ArrayReader(member.stream)):
            if not isinstance(row, dict):
                raise UserError(f"data {member.where} item {index}: expected an object, found {type(row).__name__}")
            yield SourceRow(row, f"{member.where} item {index}")
    except ValueError as error:
        raise UserError(f"data {member.where}: not valid JSON after item {index} ({error})") from error


def _json_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"data {where}: not valid JSON ({error}); correct or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"data {where}: expected a JSON object, found {type(row).__name__}")
    return row


def _parquet(member: Member) -> Iterator[SourceRow]:
    import pyarrow
    import pyarrow.parquet

    if not member.stream.seekable():
        raise UserError(f"data {member.where}: Parquet is read by position, not from a packed stream; unpack it")
    index = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(member.stream).iter_batches(1024):
            for row in batch.to_pylist():
                yield SourceRow(row, f"{member.where} row {index}")
                index += 1
    except (pyarrow.ArrowException, OSError) as error:  # a damaged page is an OSError
        raise UserError(
            f"data {member.where} near row {index}: not readable as Parquet ({str(error).splitlines()[0]})"
        ) from error


def _table(delimiter: str) -> Callable[[Member], Iterator[SourceRow]]:
    def read(member: Member) -> Iterator[SourceRow]:
        csv.field_size_limit(LONGEST)
        text = io.TextIOWrapper(member.stream, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                yield SourceRow(row, f"{member.where} line {reader.line_num}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"data {member.where} line {reader.line_num + 1}: not readable as CSV ({error})") from error
        finally:
            text.detach()

    return read


def _text_file(member: Member) -> Iterator[SourceRow]:
    text, repair = _decoded(member)
    yield SourceRow({"text": text}, member.where, repair=repair)


def _abc_file(member: Member) -> Iterator[SourceRow]:
    text, repair = _decoded(member)
    for index, tune in enumerate(split_tunes(text)):
        yield SourceRow({"text": tune}, f"{member.where} tune {index}", repair=repair)


def _decoded(member: Member) -> tuple[str, str | None]:
    """The text of a file, and what it was decoded from where that is not UTF-8."""
    content = member.stream.read(LONGEST)
    if len(content) == LONGEST:
        raise UserError(f"data {member.where}: longer than {LONGEST:,} bytes, which is no document; cut it")
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return _universal_newlines(content.decode("utf-16")), "read as UTF-16"
        return _universal_newlines(content.decode("utf-8-sig")), None
    except UnicodeDecodeError as error:
        if member.fallback:
            text = content.decode(member.fallback, errors="replace")
            return _universal_newlines(text), f"read as {member.fallback}"
        raise UserError(
            f"data {member.where}: not UTF-8 text (byte {error.start}); convert it, or name its character set, such as "
            "data.source.fallback_encoding=latin-1"
        ) from error


def _universal_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


#: Reader of each suffix.
READERS: dict[str, Callable[[Member], Iterator[SourceRow]]] = {
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

        with suppress(pyarrow.ArrowException, OSError):  # the reader reports what is wrong, and where
            return int(pyarrow.parquet.ParquetFile(file).metadata.num_rows)
    return None
