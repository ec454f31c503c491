"""One split of tokenised data as NumPy arrays: written for each shard, joined to one, read through a memory map.

input_ids.npy          tokens of all documents, one after another, uint16 or uint32
supervised.npy         whether each of them is supervised, bool
offsets.npy            document i has the tokens offsets[i] to offsets[i + 1], int64
supervised_counts.npy  supervised tokens of each document, uint32
families.npy           64 bits of each document's tune family, uint64; where families are held out
kept.parquet           the kept columns of each document's row; where rows have any
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.rendering.render import Rendered
from musician.data.sources.files import SourceRow


class SplitWriter:
    """Collect the rendered items of one split of a shard, then write them.

    Args:
        keep: columns of the rows whose values are kept as text.
    """

    def __init__(self, keep: Sequence[str] = ()) -> None:
        self._items: list[Rendered] = []
        self._families: list[int] = []
        self._kept: dict[str, list[str | None]] = {name: [] for name in keep}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Iterable[Rendered], found: SourceRow, family: str | None) -> None:
        """Add what a row was rendered to; each of several items has the row's family and kept values."""
        for item in items:
            self._items.append(item)
            if family is not None:
                digest = hashlib.blake2b(family.encode(), digest_size=8).digest()
                self._families.append(int.from_bytes(digest, "little"))
            for name, values in self._kept.items():
                value = found.values.get(name)
                values.append(None if value is None else str(value))

    def write(self, folder: Path) -> None:
        """Write the arrays of at least one item into a new folder."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir()
        masks = [item.supervised for item in self._items]
        np.save(folder / "input_ids.npy", np.concatenate([item.input_ids for item in self._items]))
        np.save(folder / "supervised.npy", np.concatenate(masks))
        np.save(folder / "offsets.npy", np.cumsum([0, *map(len, masks)], dtype=np.int64))
        np.save(folder / "supervised_counts.npy", np.array([mask.sum() for mask in masks], np.uint32))
        if self._families:
            np.save(folder / "families.npy", np.array(self._families, np.uint64))
        if self._kept:
            pq.write_table(pa.table({n: pa.array(v, pa.string()) for n, v in self._kept.items()}), folder / KEPT)


KEPT = "kept.parquet"


def join_splits(parts: Sequence[Path], folder: Path) -> None:
    """Join the folders of several shards, in order, without holding their tokens."""
    folder.mkdir(parents=True)
    for name in sorted(file.name for file in parts[0].glob("*.npy")):
        files = [part / name for part in parts]
        if name == "offsets.npy":
            lengths = np.concatenate([np.diff(np.load(file)) for file in files])
            np.save(folder / name, np.cumsum([0, *lengths], dtype=np.int64))
        else:
            concatenate(files, folder / name)
    if (parts[0] / KEPT).is_file():
        _join_tables([part / KEPT for part in parts], folder / KEPT)


def concatenate(files: Sequence[Path], target: Path) -> None:
    """Join saved arrays along their first axis; by writes, as a full disk is an error there and a signal in a map."""
    header = np.lib.format.header_data_from_array_1_0(np.load(files[0], mmap_mode="r"))
    header["shape"] = (sum(len(np.load(file, mmap_mode="r")) for file in files), *header["shape"][1:])
    with target.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for file in files:
            stream.write(np.load(file, mmap_mode="r"))


def _join_tables(files: Sequence[Path], target: Path) -> None:
    """Join the kept columns that have a value anywhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(file) for file in files])
    used = [name for name in table.column_names if table.column(name).null_count < len(table)]
    if used:
        pq.write_table(table.select(used), target)


class PreparedSplit:
    """One split, of which no more is read than what is asked for.

    Args:
        directory: with the arrays.
        pad_id: id to fill rows with; never seen by the loss.
    """

    def __init__(self, directory: Path, pad_id: int) -> None:
        self.directory = directory
        self.pad_id = pad_id
        self._ids = self._map("input_ids")
        self._supervised = self._map("supervised")
        self._offsets = self._map("offsets")

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the same files instead of receiving a copy of the tokens.
        return type(self), (self.directory, self.pad_id)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each document: `[num_documents]`."""
        return np.diff(self._offsets)

    def input_ids(self, document: int) -> np.ndarray:
        """Ids of a document: read-only, `[length]`."""
        return self._ids[self._offsets[document] : self._offsets[document + 1]]

    def supervised(self, document: int) -> np.ndarray:
        """Boolean mask of a document's supervised tokens: read-only, `[length]`."""
        return self._supervised[self._offsets[document] : self._offsets[document + 1]]

    def supervised_counts(self) -> np.ndarray:
        """Supervised tokens of each document: `[num_documents]`."""
        return self._map("supervised_counts")

    def _map(self, name: str) -> np.ndarray:
        return np.asarray(np.load(self.directory / f"{name}.npy", mmap_mode="r"))
