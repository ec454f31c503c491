"""What a run may change when it continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musician.model.checkpoint import resolve_checkpoint
from musician.runtime.errors import UserError
from musician.training.runs.changes import ABSENT, differences, in_short

#: What decides the weights that a run ends with: nodes of the config, and what of them does not.
TRAINING: dict[str, tuple[str, ...]] = {
    "seed": (),
    "global_batch_size": (),
    "recipe": (),
    "data": ("path", "root", "source"),  # their content is compared by its hash
    "model": ("network.dtype", "network.attn_implementation", "network.gradient_checkpointing"),
    "module": ("nonfinite",),
    "lora": (),
    "optimizer": (),
    "trainer": (
        *("accelerator", "devices", "num_nodes", "precision", "strategy", "default_root_dir", "log_every_n_steps"),
        *("enable_model_summary", "enable_progress_bar", "check_val_every_n_epoch", "val_check_interval"),
        *("num_sanity_val_steps", "accumulate_grad_batches", "limit_val_batches", "deterministic", "benchmark"),
        *("profiler", "detect_anomaly"),
    ),
}

#: Facts of the run record that are compared as well.
FACTS = ("data_key", "tokenizer_hash", "template")


def find_state(ckpt_path: str | None, output_dir: str | Path) -> Path | None:
    """The checkpoint that a run continues from.

    Args:
        ckpt_path: a run directory (its last checkpoint), a checkpoint, or `auto`: the last checkpoint of `output_dir`
            if there is one, so that a requeued job runs the same command. None starts afresh.
        output_dir: the run directory.

    Raises:
        UserError: there is no checkpoint, or an earlier version wrote it in shards.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "auto":
        last = Path(output_dir) / "checkpoints" / "last"
        return resolve_checkpoint(last) if last.is_symlink() else None
    last = Path(ckpt_path).expanduser() / "checkpoints" / "last"
    checkpoint = resolve_checkpoint(last if last.is_symlink() else ckpt_path)
    if (checkpoint / "state.ckpt").is_dir():
        raise UserError(
            f"checkpoint {checkpoint}: an earlier version wrote it in shards; continue it with that version"
        )
    return checkpoint


def read_record(checkpoint: Path) -> dict[str, Any] | None:
    """The record of the run that wrote a checkpoint; None where the checkpoint was taken out of its run directory."""
    file = checkpoint.parent.parent / "run.json"
    return json.loads(file.read_text()) if file.is_file() else None


def training_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What would change the weights, as `key: before -> now`; hardware, output, loggers and benchmarks do not count.

    A value that others take over is named once, where it is set.
    """
    lines = [
        line
        for node, free in TRAINING.items()
        for line in differences(before.get(node, ABSENT), now.get(node, ABSENT), node, [f"{node}.{f}" for f in free])
    ]
    named: dict[tuple[str, str], str] = {}
    for line in lines:
        path, _, values = line.partition(": ")
        named.setdefault((path.rpartition(".")[2], values), line)
    return list(named.values())


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], allowed: bool) -> str | None:
    """Refuse to continue a run with another training configuration.

    Args:
        before: the record of the run that continues.
        now: `config` or facts of this job; what is not there is not compared.
        allowed: the user wants the changes.

    Returns:
        The changes in one line, where there are some and they are wanted.

    Raises:
        UserError: naming them.
    """
    changes = training_changes(before["config"], now["config"]) if "config" in now else []
    changes += [line for fact in FACTS if fact in now for line in differences(before.get(fact), now[fact], fact)]
    if not changes:
        return None
    if allowed:
        return in_short(changes)
    raise UserError(
        f"ckpt_path: the run that continues was made with another config: {in_short(changes)}; give its overrides "
        "(.hydra/overrides.yaml), or allow_changed_config=true"
    )
