"""Files of a hub data set: fetched once, then read from the local cache, also without a network."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from musician.runtime.errors import UserError

PROBE_SECONDS = 3.0


def hub_folder(hub_id: str, patterns: Sequence[str]) -> Path:
    """Return the local copy of the files of `hub_id` that match `patterns`, fetching them when the hub answers.

    Raises:
        UserError: the files are neither in the cache nor reachable. Without a network that takes seconds: the hub's
            client by itself would retry for half a minute.
    """
    from huggingface_hub import constants, snapshot_download

    offline = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    try:
        folder = snapshot_download(hub_id, repo_type="dataset", allow_patterns=list(patterns), local_files_only=offline)
    except (OSError, ValueError) as error:
        where = "the local cache (the hub is not reachable)" if offline else f"the hub ({type(error).__name__})"
        raise UserError(f"data set '{hub_id}' was not found in {where}. {advice(hub_id)}") from error
    return Path(folder)


def advice(hub_id: str) -> str:
    """Return the sentence that says how to get a hub data set onto a machine without network."""
    return (
        f"Give a local copy with data_dir=..., or run once with network: hf download {hub_id} --repo-type dataset"
        f" (cache: {os.environ.get('HF_HOME', '~/.cache/huggingface')})."
    )


def reachable(endpoint: str) -> bool:
    """Return whether `endpoint` accepts a connection; behind a proxy that cannot be asked, and the answer is yes."""
    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return True
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split as the hub lays them out: `[data/]split*.{parquet,jsonl}`, in order."""
    found = (path for place in (folder, folder / "data") for path in place.glob(f"{split}*"))
    return sorted(path for path in found if path.suffix in (".parquet", ".jsonl"))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet or JSON-lines file.

    Raises:
        UserError: the file, or a line of it, cannot be parsed.
    """
    if path.suffix == ".parquet":
        yield from read_parquet(path)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number} is not JSON ({error.msg}); fetch the file again.") from error


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file, or raise a UserError when it is none."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}); fetch the file again.") from error
