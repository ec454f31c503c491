"""A tokenised data set on disk, of which no more is read than what is asked for.

Layout of a prepared directory:

    meta.json      format, key, tokenizer hash, template, max_length, counts of rows in, out, cut and dropped
    train/         a `datasets` directory with the columns input_ids, prompt_length, turn_lengths, and beside its shards
        lengths.npy, supervised.npy    tokens and supervised tokens of each document, uint32
        starts.npy                     first document of each shard, and how many there are in all
        families.npy                   64 bits of each document's tune family, where families were held out
        kept-00000-of-00001.parquet    the kept columns of a shard's documents, where it has any
        rows-2048/                     which documents stand together in rows of 2048 tokens
    validation/    the same, of other tune families; absent when nothing is held out

Opening maps the index; a shard is opened when the first of its documents is asked for.
"""

from __future__ import annotations

import json
import mmap
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musician.data.rendering.render import supervised_mask
from musician.data.rendering.tokenizer import tokenizer_hash
from musician.runtime.errors import UserError

FORMAT = "musician-tokens-2"

#: Shards whose files are kept open; systems allow a process 1,024 files or fewer.
OPEN_SHARDS = 512


class _Column(NamedTuple):
    """Where a column of a shard stands in its file; `offsets` only of a list column."""

    dtype: np.dtype
    values: int
    offsets: int


class ShardFile:
    """One shard, read by position, so that what was read does not stay in memory.

    A memory map would save the copy of some 1.6 KB a document, but each touch maps the 64 KB around it: 3,000 rows of 4
    billion tokens left 1.4 GB resident.

    Args:
        file: an Arrow stream of one record batch, as `musician.data.store.shards` writes it.
    """

    def __init__(self, file: Path) -> None:
        import pyarrow as pa

        self._file = file.open("rb", buffering=0)
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = pa.py_buffer(mapped)
            batch = pa.ipc.open_stream(pa.BufferReader(whole)).read_next_batch()
            self._columns = {name: _locate(batch.column(name), whole.address) for name in batch.schema.names}
            del batch, whole  # they hold the map

    def value(self, column: str, row: int) -> int:
        """One number."""
        return int(self._read(column, row, 1)[0])

    def values(self, column: str, row: int) -> np.ndarray:
        """One list, read-only."""
        offsets = self._columns[column].offsets
        start, end = np.frombuffer(os.pread(self._file.fileno(), 8, offsets + 4 * row), np.int32).tolist()
        return self._read(column, start, end - start)

    def _read(self, column: str, start: int, count: int) -> np.ndarray:
        dtype, values, _ = self._columns[column]
        size = dtype.itemsize
        return np.frombuffer(os.pread(self._file.fileno(), size * count, values + size * start), dtype)


def _locate(column: Any, base: int) -> _Column:
    import pyarrow as pa

    buffers = column.buffers()
    if not pa.types.is_list(column.type):
        return _Column(np.dtype(str(column.type)), buffers[1].address - base, -1)
    return _Column(np.dtype(str(column.type.value_type)), buffers[3].address - base, buffers[1].address - base)


class PreparedSplit:
    """One split of a prepared directory.

    Args:
        directory: a `datasets` directory as `musician.data.store.prepare` writes it.
        pad_id: id to fill rows with; never seen by the loss.

    Attributes:
        lengths: tokens of each document: `[num_documents]`.
    """

    def __init__(self, directory: Path, pad_id: int) -> None:
        self.directory = directory
        self.pad_id = pad_id
        self.lengths: np.ndarray = np.load(directory / "lengths.npy", mmap_mode="r")
        self._supervised: np.ndarray = np.load(directory / "supervised.npy", mmap_mode="r")
        self._starts = np.load(directory / "starts.npy")
        self._files = [file["filename"] for file in json.loads((directory / "state.json").read_text())["_data_files"]]
        self._open = lru_cache(OPEN_SHARDS)(self._open_shard)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the same file instead of receiving a copy of the tokens.
        return type(self), (self.directory, self.pad_id)

    def __len__(self) -> int:
        return len(self.lengths)

    def input_ids(self, document: int) -> np.ndarray:
        """Ids of a document: read-only, `[length]`."""
        shard, local = self._find(document)
        return shard.values("input_ids", local)

    def supervised(self, document: int) -> np.ndarray:
        """Boolean mask of a document's supervised tokens: `[length]`."""
        shard, local = self._find(document)
        return supervised_mask(shard.value("prompt_length", local), shard.values("turn_lengths", local))

    def supervised_counts(self) -> np.ndarray:
        """Supervised tokens of each document: `[num_documents]`."""
        return self._supervised

    def _find(self, document: int) -> tuple[ShardFile, int]:
        """The shard of a document, and its place there."""
        number = int(np.searchsorted(self._starts, document, side="right")) - 1
        return self._open(number), int(document) - int(self._starts[number])

    def _open_shard(self, number: int) -> ShardFile:
        return ShardFile(self.directory / self._files[number])


class PreparedData:
    """A prepared directory, checked against the tokenizer that will read it.

    Args:
        directory: what `python -m musician.preprocess` printed.
        tokenizer: the model's tokenizer.

    Raises:
        UserError: not a prepared directory, one that was not finished, or one made with another tokenizer.
    """

    def __init__(self, directory: str | Path, tokenizer: Any) -> None:
        self.directory = Path(directory)
        self.meta = read_meta(self.directory)
        if self.meta["tokenizer_hash"] != tokenizer_hash(tokenizer):
            raise UserError(
                f"data {self.directory}: was tokenised with another tokenizer ({self.meta['tokenizer']}); "
                "run musician.preprocess again with this model"
            )
        self.pad_id = int(tokenizer.pad_token_id)

    @property
    def key(self) -> str:
        """Content address of the data."""
        return str(self.meta["key"])

    def split(self, name: str) -> PreparedSplit | None:
        """The split `train` or `validation`; None when nothing was held out."""
        return PreparedSplit(self.directory / name, self.pad_id) if self.meta["splits"].get(name) else None


def read_meta(directory: Path) -> dict[str, Any]:
    """Read `meta.json` of a prepared directory.

    Raises:
        UserError: there is none, or it is of another format.
    """
    file = directory / "meta.json"
    if not file.is_file():
        raise UserError(
            f"data {directory}: not a prepared data directory (no meta.json); make one with musician.preprocess"
        )
    meta = json.loads(file.read_text())
    if meta.get("format") != FORMAT:
        raise UserError(
            f"data {directory}: format '{meta.get('format')}' is not '{FORMAT}'; run musician.preprocess again"
        )
    return meta
