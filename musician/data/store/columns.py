"""The rendered items of one split of a shard, and what is kept beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.rendering.render import Rendered
from musician.data.sources.files import SourceRow


class Columns:
    """Collects items, then writes them.

    Args:
        dtype: of the ids.
        keep: columns of the rows whose values are kept as text.
    """

    def __init__(self, dtype: str, keep: Sequence[str] = ()) -> None:
        self._dtype = np.dtype(dtype)
        self._ids: list[np.ndarray] = []
        self._turns: list[tuple[int, ...]] = []
        self._families: list[int] = []
        self._kept: dict[str, list[str | None]] = {name: [] for name in keep}
        self.lengths: list[int] = []
        self.prompts: list[int] = []
        self.supervised: list[int] = []

    def add(self, items: Iterable[Rendered], found: SourceRow, family: str | None) -> None:
        """Add what a row was rendered to; a row that gives several items gives each its family and kept values."""
        for item in items:
            self._ids.append(item.input_ids)
            self._turns.append(item.turn_lengths)
            self.lengths.append(len(item.input_ids))
            self.prompts.append(item.prompt_length)
            self.supervised.append(sum(item.turn_lengths[::2]))
            if family is not None:
                self._families.append(_short_name(family))
            for name, values in self._kept.items():
                value = found.values.get(name)
                values.append(None if value is None else str(value))

    def write(self, folder: Path, split: str) -> None:
        """Write `SPLIT.arrow`, `SPLIT.lengths.npy`, `SPLIT.supervised.npy`, and where there is any such thing
        `SPLIT.families.npy` (64 bits of each item's family) and `SPLIT.kept.parquet` (the kept columns).

        The ids are one record batch in Arrow's stream format, as `datasets` maps it into memory.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        turns = np.fromiter((length for lengths in self._turns for length in lengths), np.int32)
        batch = pa.record_batch(
            {
                "input_ids": pa.ListArray.from_arrays(_offsets(self.lengths), pa.array(np.concatenate(self._ids))),
                "prompt_length": pa.array(self.prompts, pa.int32()),
                "turn_lengths": pa.ListArray.from_arrays(_offsets(list(map(len, self._turns))), pa.array(turns)),
            }
        )
        with pa.OSFile(str(folder / f"{split}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        np.save(folder / f"{split}.lengths.npy", np.asarray(self.lengths, np.uint32))
        np.save(folder / f"{split}.supervised.npy", np.asarray(self.supervised, np.uint32))
        if self._families:
            np.save(folder / f"{split}.families.npy", np.asarray(self._families, np.uint64))
        kept = {name: pa.array(values, pa.string()) for name, values in self._kept.items() if any(values)}
        if kept:
            pq.write_table(pa.table(kept), folder / f"{split}.kept.parquet")


def _short_name(family: str) -> int:
    return int.from_bytes(hashlib.blake2b(family.encode(), digest_size=8).digest(), "little")


def _offsets(lengths: Sequence[int]) -> Any:
    import pyarrow as pa

    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
