"""Where rows come from: files, folders, the hub, the corpus of tunes."""

from __future__ import annotations

import codecs
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from musician.data.sources.archives import PACKED, holds_rows, members
from musician.data.sources.corpus import CorpusTune, default_collections, iter_tunes
from musician.data.sources.files import READERS, SourceRow, count_rows
from musician.music.analysis.family import families
from musician.runtime.errors import UserError
from musician.runtime.progress import show_line

_FORMATS = ", ".join([*sorted(READERS), *PACKED])


class Source(Protocol):
    """Rows of one schema, with an identity that changes whenever they do."""

    def identity(self) -> str:
        """Hash of the content."""
        ...

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows in a fixed order."""
        ...

    def num_rows(self) -> int | None:
        """How many rows there are, where that is known without reading them all; for the progress."""
        ...

    def describe(self) -> dict[str, Any]:
        """The description of it in `meta.json`, after the rows were read."""
        ...


class RowSource:
    """Rows of a local file, a folder of files, or a dataset on the hub.

    Args:
        path: `.jsonl`, `.json`, `.parquet`, `.csv`, `.tsv`, `.txt` (one document a file), `.abc` (one document a tune),
            one of these compressed (`.gz`, `.bz2`, `.xz`, `.zst`) or many in a `.zip` or `.tar`, a folder of all such
            files, or a hub id such as `m-a-p/MusicPile-sft`. Nothing is unpacked to disk.
        split: split of a hub dataset.
        revision: revision of a hub dataset.
        limit: read only the first so many rows.
        fallback_encoding: character set of `.txt` and `.abc` files that are not UTF-8, such as `latin-1`; None refuses
            them. Counted.

    Raises:
        UserError: nothing there, an unknown format, an unreadable row (named by file and line).
    """

    def __init__(
        self,
        path: str | None,
        split: str = "train",
        revision: str | None = None,
        limit: int | None = None,
        fallback_encoding: str | None = None,
    ) -> None:
        if path is None:
            raise UserError("data: no rows are named; set data.path=FILE or FOLDER")
        self.path, self.split, self.revision, self.limit = path, split, revision, limit
        self.fallback_encoding = _known_encoding(fallback_encoding)
        self._hub: Any = None
        self._ignored: Counter[str] = Counter()

    def identity(self) -> str:
        """Hash of the bytes of every file, or the fingerprint of the hub dataset."""
        digest = hashlib.sha256(repr((self.split, self.limit, self.fallback_encoding)).encode())
        files = self._files()
        if files is None:
            digest.update(f"{self.path}@{self.revision}:{self._hub_dataset()._fingerprint}".encode())
        for file in files or ():
            digest.update(file.name.encode())
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise UserError(f"data {file}: cannot be read ({error.strerror or error}); check its rights") from error
        return digest.hexdigest()

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows, files in the order of their names."""
        files = self._files()
        if files is None:
            found = (SourceRow(row, f"{self.path} row {index}") for index, row in enumerate(self._hub_dataset()))
        else:
            found = (
                row
                for file in files
                for member in members(file, READERS, self._ignored)
                for row in READERS[member.suffix](replace(member, fallback=self.fallback_encoding))
            )
        return islice(found, self.limit)

    def num_rows(self) -> int | None:
        """Lines of JSON, rows of Parquet or of the hub; None among other formats."""
        files = self._files()
        counts = [len(self._hub_dataset())] if files is None else [count_rows(file) for file in files]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return self.limit
        return sum(known) if self.limit is None else min(self.limit, sum(known))

    def describe(self) -> dict[str, Any]:
        """Where the rows came from, and how many files of other formats were met, by suffix."""
        asked = {"path": self.path, "split": self.split, "revision": self.revision, "limit": self.limit}
        return asked | ({"ignored_files": dict(sorted(self._ignored.items()))} if self._ignored else {})

    def _files(self) -> list[Path] | None:
        """The local files, or None for a hub id."""
        path = Path(self.path).expanduser()
        self._ignored.clear()
        if path.is_dir():
            return self._files_below(path)
        if path.is_file():
            if not holds_rows(path.name, READERS):
                raise UserError(f"data {path}: unknown format '{path.suffix}'; use one of {_FORMATS}")
            if path.stat().st_size == 0:
                raise UserError(f"data {path}: the file is empty")
            return [path]
        looks_local = path.is_absolute() or self.path.startswith((".", "~")) or holds_rows(path.name, READERS)
        if looks_local or self.path.count("/") != 1:
            raise UserError(f"data {self.path}: no such file or folder; give a path or a hub id such as owner/name")
        return None

    def _files_below(self, folder: Path) -> list[Path]:
        every = sorted(file for file in folder.rglob("*") if file.is_file())
        files = [file for file in every if holds_rows(file.name, READERS)]
        self._ignored.update(file.suffix.lower() or "no suffix" for file in set(every) - set(files))
        if not files:
            raise UserError(f"data {folder}: the folder holds no file of a known format ({_FORMATS})")
        return files

    def _hub_dataset(self) -> Any:
        if self._hub is None:
            import datasets

            try:
                self._hub = datasets.load_dataset(self.path, split=self.split, revision=self.revision)
            except Exception as error:  # the hub client raises a different class for each way of failing
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise UserError(
                    f"data {self.path}: the hub dataset cannot be loaded ({reason}); "
                    "download it and read its folder with data=files data.path=FOLDER"
                ) from error
        return self._hub


class TuneSource:
    """Tunes of the music21 corpus, or of a folder of `.abc` and MIDI files, each with its family.

    What became of MIDI files, and of ABC that is not UTF-8, is said on stderr when the tunes are first read, and kept
    in `describe`.

    Args:
        collections: names of collections; None takes those whose terms allow it by default.
        root: a folder of `.abc` and MIDI files instead of the corpus that music21 installs.
        limit: only the first so many tunes.
    """

    def __init__(
        self, collections: Sequence[str] | None = None, root: str | None = None, limit: int | None = None
    ) -> None:
        self.collections = list(collections) if collections is not None else (None if root else default_collections())
        self.root = root
        self.limit = limit
        self._tunes: list[CorpusTune] | None = None
        self._files: Counter[str] = Counter()
        self._families: list[str] | None = None

    def tunes(self) -> list[CorpusTune]:
        """All tunes, read once."""
        if self._tunes is None:
            found = iter_tunes(self.collections, Path(self.root) if self.root else None, self._files)
            self._tunes = list(islice(found, self.limit))
            for what, count in sorted(self._files.items()):
                show_line(f"{count:,} {what}", keep=True)
        return self._tunes

    def families(self) -> list[str]:
        """Family key of each tune."""
        if self._families is None:
            self._families = _families(tuple(tune.text for tune in self.tunes()))
        return self._families

    def identity(self) -> str:
        """Hash of the texts."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for tune in self.tunes():
            digest.update(tune.text.encode() + b"\0")
        return digest.hexdigest()

    def num_rows(self) -> int | None:
        """One for each tune."""
        return len(self.tunes())

    def describe(self) -> dict[str, Any]:
        """Which tunes these are."""
        about = {"collections": self.collections, "root": self.root, "limit": self.limit}
        return {**about, "files": dict(self._files)} if self._files else about

    def rows(self) -> Iterator[SourceRow]:
        """Yield a document a tune."""
        for tune, family in zip(self.tunes(), self.families(), strict=True):
            yield SourceRow({"text": tune.text}, f"{tune.file} tune {tune.index}", family)


def _known_encoding(name: str | None) -> str | None:
    try:
        return codecs.lookup(name).name if name else None
    except LookupError as error:
        raise UserError(f"data.source.fallback_encoding={name}: no such character set; latin-1 or cp1252?") from error


@lru_cache(maxsize=4)
def _families(texts: tuple[str, ...]) -> list[str]:
    """Families of a list of tunes; a run's data and its benchmarks ask for the same one."""
    return families(texts)
