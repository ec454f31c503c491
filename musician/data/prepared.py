"""A tokenised data set on disk, read without copying: Arrow buffers as numpy views of a memory-mapped file.

Layout of a prepared directory:

    meta.json      format, key, tokenizer hash, template, max_length, counts of rows in, out, cut and dropped
    train/         a `datasets` directory with the columns input_ids, prompt_length, turn_lengths
    validation/    the same, of other tune families; absent when nothing is held out
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.render import supervised_mask
from musician.data.tokenizer import tokenizer_hash
from musician.errors import UserError

FORMAT = "musician-tokens-1"


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
        lengths = [np.diff(offsets) for offsets in self._offsets]
        self.lengths: np.ndarray = np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        offsets = self._offsets[chunk]
        local = index - int(self._starts[chunk])
        return self._values[chunk][offsets[local] : offsets[local + 1]]

    def sums_of_every_second(self) -> np.ndarray:
        """Sum of the elements 0, 2, 4, ... of each list: `[len(self)]`."""
        sums = []
        for values, offsets in zip(self._values, self._offsets, strict=True):
            values = values[offsets[0] : offsets[-1]]
            counts = np.diff(offsets)
            place = np.arange(len(values)) - np.repeat(offsets[:-1] - offsets[0], counts)
            taken = np.where(place % 2 == 0, values, 0).astype(np.int64)
            owner = np.repeat(np.arange(len(counts)), counts)
            sums.append(np.bincount(owner, weights=taken, minlength=len(counts)).astype(np.int64))
        return np.concatenate(sums) if sums else np.zeros(0, np.int64)


class PreparedSplit:
    """One split of a prepared directory.

    Args:
        directory: a `datasets` directory as `musician.data.prepare` writes it.
        pad_id: id to fill rows with; never seen by the loss.
    """

    def __init__(self, directory: Path, pad_id: int) -> None:
        import datasets

        dataset = datasets.load_from_disk(str(directory))
        table = dataset.data
        self.directory = directory
        self.pad_id = pad_id
        self._ids = ListColumn(table.column("input_ids"))
        self._turns = ListColumn(table.column("turn_lengths"))
        self._prompts = table.column("prompt_length").to_numpy()

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the same file instead of receiving a copy of the tokens.
        return type(self), (self.directory, self.pad_id)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document: `[num_documents]`."""
        return self._ids.lengths

    def input_ids(self, document: int) -> np.ndarray:
        """Ids of a document: a view, `[length]`."""
        return self._ids[document]

    def supervised(self, document: int) -> np.ndarray:
        """Boolean mask of a document's supervised tokens: `[length]`."""
        return supervised_mask(int(self._prompts[document]), self._turns[document])

    def supervised_counts(self) -> np.ndarray:
        """Supervised tokens of each document: `[num_documents]`."""
        return self._turns.sums_of_every_second()


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
