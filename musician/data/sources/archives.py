"""Files as byte streams: plain, compressed, or members of an archive; nothing is unpacked to disk.

A compressed stream may not grow without bound: past `FREE` bytes it may give at most `RATIO` times the bytes that it
was stored in. Text compresses 3 to 50 times; a bomb reaches 1,000 times and more.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from musician.runtime.errors import UserError

RATIO = 200
FREE = 1 << 26

_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, ValueError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file, or a file in an archive, opened for reading from its start.

    Attributes:
        stream: its bytes, uncompressed.
        suffix: its format, such as `.jsonl`, in lower case.
        where: its name for messages: `corpus.tar.gz:train/rows.jsonl`.
        fallback: character set to read it in where it is text, but not UTF-8; None refuses it.
    """

    stream: io.BufferedReader
    suffix: str
    where: str
    fallback: str | None = None


def _zstd(stream: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(stream, "zstd")


_COMPRESSED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}
_SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz"}

#: Suffixes of archives and compressed files.
PACKED = (".zip", ".tar", *_SHORT, *_COMPRESSED)


def format_of(name: str) -> tuple[str, str]:
    """Suffix of the format of a file, such as `.jsonl` or `.tar`, and that of its compression, or nothing."""
    path = PurePosixPath(name.lower())
    path = path.with_suffix(_SHORT.get(path.suffix, path.suffix))
    if path.suffix in _COMPRESSED:
        return PurePosixPath(path.stem).suffix, path.suffix
    return path.suffix, ""


def holds_rows(name: str, formats: Container[str]) -> bool:
    """Whether a file is of one of the formats, or may hold files that are."""
    suffix, compression = format_of(name)
    return suffix in formats or suffix == ".tar" or (suffix == ".zip" and not compression)


def members(file: Path, formats: Container[str], ignored: Counter[str]) -> Iterator[Member]:
    """Open a file, or one after another the members of an archive that are of a known format.

    A member must be read before the next is asked for. Members in an archive may be compressed; archives in archives
    are not opened.

    Args:
        file: plain, compressed, `.zip` or `.tar`.
        formats: suffixes that are known.
        ignored: counts the members of other formats, by suffix.

    Raises:
        UserError: a damaged or encrypted archive; a stream that grows past the bound.
    """
    suffix, compression = format_of(file.name)
    with file.open("rb") as opened:
        stream = _plain(opened, compression, file.stat().st_size, str(file))
        if suffix not in _ARCHIVES:
            yield Member(stream, suffix, str(file))
            return
        try:
            for name, packed, size in _ARCHIVES[suffix](stream):
                suffix, compression = format_of(name)
                if suffix in formats:
                    where = f"{file}:{name}"
                    yield Member(_plain(_bounded(packed(), size, where), compression, size, where), suffix, where)
                else:
                    ignored[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
        except (zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, EOFError) as error:
            # RuntimeError: encrypted
            raise UserError(f"data {file}: cannot be unpacked ({error}); unpack it yourself") from error


#: Name of a member, what opens it, and the bytes that it is stored in.
Entry = tuple[str, Callable[[], Any], int]


def _zip(stream: BinaryIO) -> Iterator[Entry]:
    with zipfile.ZipFile(stream) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if sum(entry.compress_size for entry in entries) > stream.seek(0, os.SEEK_END):
            raise zipfile.BadZipFile("its members overlap, as those of a zip bomb do")
        for entry in entries:
            yield entry.filename, partial(archive.open, entry), entry.compress_size


def _tar(stream: BinaryIO) -> Iterator[Entry]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else it remembers every one
            if entry.isfile():
                yield entry.name, partial(archive.extractfile, entry), entry.size


_ARCHIVES: dict[str, Callable[[BinaryIO], Iterator[Entry]]] = {".zip": _zip, ".tar": _tar}


def _plain(stream: Any, compression: str, size: int, where: str) -> io.BufferedReader:
    """The stream itself, or what it holds where it is compressed."""
    return _bounded(_COMPRESSED[compression](stream), size, where) if compression else stream


def _bounded(stream: Any, size: int, where: str) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(stream, size, where), 1 << 17)


class _Bounded(io.RawIOBase):
    """Bytes of a compressed stream, up to a bound; damage becomes an error for the user.

    Args:
        stream: gives uncompressed bytes.
        size: bytes that they are stored in.
        where: for messages.
    """

    def __init__(self, stream: Any, size: int, where: str) -> None:
        self._stream, self._where = stream, where
        self._size, self._left = size, max(FREE, RATIO * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            found = self._stream.read(len(buffer))
        except _DAMAGE as error:
            raise UserError(f"data {self._where}: cannot be unpacked ({error}); it is damaged") from error
        self._left -= len(found)
        if self._left < 0:
            raise UserError(
                f"data {self._where}: grows to more than {RATIO} times its {self._size:,} bytes, as a bomb does; "
                "unpack it yourself if it is meant"
            )
        buffer[: len(found)] = found
        return len(found)
