"""What a checkpoint directory holds.

checkpoints/step-000035/
    state.ckpt      Lightning's state: trainable weights, optimiser, schedule, random states, position in the data
    adapter/        the same weights as peft writes them (`lora=null`: model/, a whole transformers model)
    checkpoint.json step, epoch, metrics, and how to render a prompt
checkpoints/last -> step-000035
checkpoints/best -> step-000035
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from musician.runtime.atomic import standing
from musician.runtime.errors import UserError

DESCRIPTION = "checkpoint.json"


def save_weights(network: nn.Module, tokenizer: Any, directory: Path) -> None:
    """Write the trained weights in Hugging Face's layout: the adapter alone, or the model where there is none."""
    is_adapter = hasattr(network, "peft_config")
    folder = directory / ("adapter" if is_adapter else "model")
    # The embedding is written exactly when it was trained; peft's "auto" would ask the hub for the base's vocabulary.
    network.save_pretrained(folder, **({"save_embedding_layers": False} if is_adapter else {}))  # type: ignore[operator]
    tokenizer.save_pretrained(folder)


def describe(directory: Path, values: Mapping[str, Any]) -> None:
    """Write `checkpoint.json`."""
    (directory / DESCRIPTION).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def read_description(directory: Path) -> dict[str, Any]:
    """Read `checkpoint.json`; empty for a directory that has none, such as a model from the hub."""
    file = directory / DESCRIPTION
    return json.loads(file.read_text()) if file.is_file() else {}


def resolve_checkpoint(path: str | Path) -> Path:
    """Find the checkpoint directory that a user means.

    Args:
        path: a run directory (its best checkpoint, else its last), a `checkpoints/` folder, or a checkpoint itself.

    Raises:
        UserError: there is none.
    """
    path = Path(path).expanduser()
    for candidate in (path, path / "best", path / "last", path / "checkpoints" / "best", path / "checkpoints" / "last"):
        found = standing(candidate.resolve())
        if (found / DESCRIPTION).is_file():
            return found
    raise UserError(
        f"checkpoint {path}: no checkpoint here (looked for {DESCRIPTION}, checkpoints/best, checkpoints/last)"
    )


def newest_run(root: str | Path = "outputs") -> Path:
    """The run directory under `root` whose last checkpoint is newest.

    Raises:
        UserError: there is none.
    """
    found = sorted(Path(root).rglob("checkpoints/last"), key=lambda link: link.lstat().st_mtime)
    if not found:
        raise UserError(f"no run with a checkpoint under {Path(root).resolve()}; train first, or name a checkpoint")
    return found[-1].parent.parent
