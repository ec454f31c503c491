"""A tokenised data set on disk, read without copying: Arrow buffers as numpy views of a memory-mapped file.

Layout of a prepared directory:

    meta.json      format, key, tokenizer hash, template, max_length, counts of rows in, out, cut and dropped
    train/         a `datasets` directory with the columns input_ids, prompt_length, turn_lengths, and beside its shards
        lengths.npy, supervised.npy    tokens and supervised tokens of each document, uint32
        starts.npy                     first document of each shard, and how many there are in all
        rows-2048/                     which documents stand together in rows of 2048 tokens
    validation/    the same, of other tune families; absent when nothing is held out

Opening reads the sizes of these files, nothing else; a shard is mapped when the first of its documents is asked for.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musician.data.render import supervised_mask
from musician.data.tokenizer import tokenizer_hash
from musician.errors import UserError

FORMAT = "musician-tokens-2"


class ListColumn:
    """A list column of an Arrow table as numpy slices; nothing is copied.

    Args:
        column: a `pyarrow.ChunkedArray` of lists of integers without nulls.
    """

    def __init__(self, column: Any) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._starts = np.cumsum([0, *[len(chunk) for chunk in chunks]])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        offsets = self._offsets[chunk]
        local = index - int(self._starts[chunk])
        return self._values[chunk][offsets[local] : offsets[local + 1]]


class _Shard(NamedTuple):
    """The columns of one shard."""

    ids: ListColumn
    prompts: np.ndarray
    turns: ListColumn


class PreparedSplit:
    """One split of a prepared directory.

    Args:
        directory: a `datasets` directory as `musician.data.prepare` writes it.
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
        self._shards: dict[int, _Shard] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the same file instead of receiving a copy of the tokens.
        return type(self), (self.directory, self.pad_id)

    def __len__(self) -> int:
        return len(self.lengths)

    def input_ids(self, document: int) -> np.ndarray:
        """Ids of a document: a view, `[length]`."""
        shard, local = self._find(document)
        return shard.ids[local]

    def supervised(self, document: int) -> np.ndarray:
        """Boolean mask of a document's supervised tokens: `[length]`."""
        shard, local = self._find(document)
        return supervised_mask(int(shard.prompts[local]), shard.turns[local])

    def supervised_counts(self) -> np.ndarray:
        """Supervised tokens of each document: `[num_documents]`."""
        return self._supervised

    def _find(self, document: int) -> tuple[_Shard, int]:
        """The shard of a document, and its place there."""
        number = int(np.searchsorted(self._starts, document, side="right")) - 1
        if number not in self._shards:
            self._shards[number] = _open(self.directory / self._files[number])
        return self._shards[number], document - int(self._starts[number])


def _open(file: Path) -> _Shard:
    """Map a shard; documents are read at random, so the system is told not to read ahead."""
    import pyarrow as pa

    with file.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    table = pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all()
    prompts = table.column("prompt_length").chunk(0).to_numpy(zero_copy_only=True)
    return _Shard(ListColumn(table.column("input_ids")), prompts, ListColumn(table.column("turn_lengths")))


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
