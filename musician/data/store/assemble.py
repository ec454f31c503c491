"""Whole shards become a prepared directory: files change their names, not their content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from musician.data.packing_plan import plan, save_plan
from musician.data.store.shards import Tally


def assemble(shards: Sequence[Path], tally: Tally, key: str, max_length: int, directory: Path) -> None:
    """Give every split the layout of a `datasets` directory, its index and its plan of packed rows.

    Args:
        shards: what `write_shard` made, in order.
        tally: their sum.
        key: content address, for the fingerprint that `datasets` keeps.
        max_length: tokens of a packed row.
        directory: to be filled.
    """
    for split in sorted(tally.items):
        folder = directory / split
        folder.mkdir(parents=True)
        parts = [shard for shard in shards if (shard / f"{split}.arrow").is_file()]
        names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
        for shard, name in zip(parts, names, strict=True):
            _link(shard / f"{split}.arrow", folder / name)
            if (shard / f"{split}.kept.parquet").is_file():
                _link(
                    shard / f"{split}.kept.parquet", folder / name.replace("data", "kept").replace("arrow", "parquet")
                )
        lengths = _joined(shard / f"{split}.lengths.npy" for shard in parts)
        counts = [len(np.load(shard / f"{split}.lengths.npy", mmap_mode="r")) for shard in parts]
        np.save(folder / "lengths.npy", lengths)
        supervised = _joined(shard / f"{split}.supervised.npy" for shard in parts)
        np.save(folder / "supervised.npy", supervised)
        if all((shard / f"{split}.families.npy").is_file() for shard in parts):
            np.save(folder / "families.npy", _joined(shard / f"{split}.families.npy" for shard in parts))
        np.save(folder / "starts.npy", np.cumsum([0, *counts]))
        save_plan(plan(lengths, supervised, max_length), folder, max_length)
        _describe(folder, names, f"{key}-{split}", _id_type(parts[0] / f"{split}.arrow"))


def _joined(files: Iterable[Path]) -> np.ndarray:
    return np.concatenate([np.load(file) for file in files])


def _link(file: Path, name: Path) -> None:
    """A second name for a file; a copy where the file system knows no such thing."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def _id_type(file: Path) -> str:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        return str(stream.schema.field("input_ids").type.value_type)


def _describe(folder: Path, names: Sequence[str], fingerprint: str, id_type: str) -> None:
    """The two files that `datasets.load_from_disk` wants."""
    types = {"input_ids": id_type, "turn_lengths": "int32"}
    features: dict[str, object] = {
        name: {"feature": {"dtype": dtype, "_type": "Value"}, "_type": "List"} for name, dtype in types.items()
    }
    features["prompt_length"] = {"dtype": "int32", "_type": "Value"}
    order = ("input_ids", "prompt_length", "turn_lengths")
    info = {"citation": "", "description": "", "features": {name: features[name] for name in order}}
    state: dict[str, object] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "dataset_info.json").write_text(json.dumps({**info, "homepage": "", "license": ""}, indent=2))
    (folder / "state.json").write_text(json.dumps(state, indent=2))
