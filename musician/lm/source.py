"""Open whatever a user calls a model: a run directory, a checkpoint, an adapter, a merged model, a hub id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musician.model.checkpoint import DESCRIPTION, read_description, resolve_checkpoint
from musician.runtime.errors import UserError

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the parts of a model are.

    Attributes:
        base: what `load_network` takes.
        tokenizer: what `load_tokenizer` takes.
        adapter: directory of the adapter, None for a whole model.
        description: what its checkpoint says of itself; empty for a plain model.
    """

    base: str
    tokenizer: str
    adapter: Path | None
    description: dict[str, Any]


def find_model(path: str | Path, base: str | None = None) -> ModelSource:
    """Find the parts of a model.

    Args:
        path: a run directory, a checkpoint, an adapter, a directory in Hugging Face's layout, a GGUF file or a hub id.
        base: base model of an adapter, where it is not what the adapter remembers.

    Raises:
        UserError: nothing usable there.
    """
    directory = Path(path).expanduser()
    if (directory / "config.json").is_file() or not directory.is_dir():
        return ModelSource(str(path), str(path), None, read_description(directory))
    if (directory / ADAPTER_CONFIG).is_file():
        return _adapter(directory, base, read_description(directory.parent))
    checkpoint = resolve_checkpoint(directory)
    description = read_description(checkpoint)
    if (checkpoint / "adapter" / ADAPTER_CONFIG).is_file():
        return _adapter(checkpoint / "adapter", base, description)
    if (checkpoint / "model" / "config.json").is_file():
        return ModelSource(str(checkpoint / "model"), str(checkpoint / "model"), None, description)
    raise UserError(f"model {path}: {checkpoint} holds {DESCRIPTION} but neither adapter/ nor model/")


def _adapter(directory: Path, base: str | None, description: dict[str, Any]) -> ModelSource:
    remembered = description.get("base_model") or json.loads((directory / ADAPTER_CONFIG).read_text()).get(
        "base_model_name_or_path"
    )
    if not (base or remembered):
        raise UserError(f"adapter {directory}: does not say what it was trained on; give model.base=...")
    has_tokenizer = (directory / "tokenizer_config.json").is_file()
    return ModelSource(
        base or remembered, str(directory) if has_tokenizer else base or remembered, directory, description
    )
