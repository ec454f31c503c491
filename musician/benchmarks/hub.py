"""Files of a hub data set: fetched once, then read from the local cache without a network call."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from musician.data.sources.source import RowSource
from musician.runtime.errors import UserError


def hub_folder(hub_id: str, patterns: Sequence[str]) -> Path:
    """Return the local copy of the files of `hub_id` that match `patterns`; the hub is asked where one is missing.

    Raises:
        UserError: the files are neither in the cache nor reachable.
    """
    from huggingface_hub import snapshot_download

    reason = "it has no such files"
    for cached in (True, False):
        try:
            folder = Path(
                snapshot_download(
                    hub_id, repo_type="dataset", allow_patterns=list(patterns), local_files_only=cached, etag_timeout=3
                )
            )
        except (OSError, ValueError) as error:
            reason = type(error).__name__
        else:
            if all(any(folder.glob(pattern)) for pattern in patterns):
                return folder
    raise UserError(f"data set '{hub_id}': neither in the local cache nor on the hub ({reason}). {advice(hub_id)}")


def advice(hub_id: str) -> str:
    """Return the sentence that says how to get a hub data set onto a machine without network."""
    return (
        f"Give a local copy with data_dir=..., or run once with network: hf download {hub_id} --repo-type dataset"
        f" (cache: {os.environ.get('HF_HOME', '~/.cache/huggingface')})."
    )


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split as the hub lays them out: `[data/]split*.{parquet,jsonl}`, in order."""
    found = (path for place in (folder, folder / "data") for path in place.glob(f"{split}*"))
    return sorted(path for path in found if path.suffix in (".parquet", ".jsonl"))


def split_rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the files.

    Raises:
        UserError: a file, or a line of it, cannot be parsed.
    """
    for file in files:
        for row in RowSource(str(file)).rows():
            yield dict(row.values)
