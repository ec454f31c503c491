"""One optimiser step of a run in detail: its rows, its loss, the norms of each layer."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from musician.data.batches import IGNORED, Batch
from musician.model.checkpoint import read_description
from musician.runtime.errors import UserError
from musician.training.loggers.csv_log import read_log

#: Parts of a weight's name that say nothing about its place in the network.
_WRAPPERS = {"network", "base_model", "model", "transformer", "default", "weight", "bias", "modules_to_save"}

#: A loss is the logged one within this share of it: the log holds single precision.
TOLERANCE = 1e-6


@dataclass(slots=True)
class Step:
    """What one optimiser step did.

    Attributes:
        step: counted from 1; a checkpoint `step-000006` stands before step 7.
        epoch: counted from 0.
        learning_rates: of the optimiser's groups.
        micro_batches: in order: `rows`, and `loss`, the mean over its own supervised tokens in nats (None without any).
            A row has `documents` (their numbers in the prepared training split), `tokens` (without padding),
            `supervised` tokens and `text`.
        loss: mean over the supervised tokens of the global batch, in nats; None where the step was not finished.
        gradient_norm: of all trained weights before clipping.
        layers: in the network's order, as `layers` returns them.
    """

    step: int
    epoch: int
    learning_rates: list[float]
    micro_batches: list[dict[str, Any]] = field(default_factory=list)
    loss: float | None = None
    gradient_norm: float | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)


class StepReplay(Callback):
    """Watches one optimiser step of a fit in one process, and ends the fit after it.

    Args:
        step: which one, counted from 1.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        #: Filled once training gets there.
        self.found: Step | None = None
        self._loss = 0.0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Refuse a step that the run does not have.

        Raises:
            UserError: naming its last one.
        """
        total = int(trainer.estimated_stepping_batches)
        if self.step > total:
            raise UserError(f"replay: step={self.step} is beyond the end; the run has {total} steps")

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Note the rows of a micro-batch of the step."""
        if trainer.global_step != self.step - 1:
            return
        if self.found is None:
            rates = [float(group["lr"]) for group in trainer.optimizers[0].param_groups]
            self.found = Step(self.step, trainer.current_epoch, list(dict.fromkeys(rates)))
        rows = self._rows(trainer, batch, len(self.found.micro_batches))
        self.found.micro_batches.append({"rows": rows, "loss": None})

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Measure weights and gradients before the gradient is clipped."""
        if self.found is not None:
            gradients = [p.grad for p in pl_module.parameters() if p.requires_grad and p.grad is not None]
            self.found.gradient_norm = _norm(gradients)
            self.found.layers = layers(pl_module.network)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss; after the last micro-batch of the step stop."""
        if self.found is None:
            return
        share, micro = float(outputs["share"]), self.found.micro_batches[-1]
        if supervised := sum(row["supervised"] for row in micro["rows"]):
            micro["loss"] = share * batch["supervised_in_global_batch"] / supervised
        self._loss += share
        if trainer.global_step == self.step:
            self.found.loss = self._loss
            trainer.should_stop = True

    def _rows(self, trainer: lightning.Trainer, batch: Batch, micro: int) -> list[dict[str, Any]]:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        epoch, first = divmod(self.step - 1, steps)
        documents = datamodule.training_batches(epoch, first).documents(micro)
        lengths = [sum(len(datamodule.train.input_ids(document)) for document in row) for row in documents]
        tokenizer = datamodule.renderer.tokenizer
        return [
            {
                "documents": [int(document) for document in row],
                "tokens": length,
                "supervised": int((batch["labels"][place, 1:] != IGNORED).sum()),
                "text": tokenizer.decode(batch["input_ids"][place, :length].tolist()),
            }
            for place, (row, length) in enumerate(zip(documents, lengths, strict=True))
        ]


def layers(network: torch.nn.Module) -> list[dict[str, Any]]:
    """Return the norms of the trained weights and of their gradients before clipping, by block and kind."""
    groups: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[block_and_kind(name)].append(parameter)
    return [
        {
            "block": block,
            "kind": kind,
            "weights": sum(p.numel() for p in members),
            "weight_norm": _norm([p.detach() for p in members]),
            "gradient_norm": _norm([p.grad for p in members if p.grad is not None]),
        }
        for (block, kind), members in groups.items()
    ]


def block_and_kind(name: str) -> tuple[str, str]:
    """Where a weight belongs: `...layers.3.mlp.up_proj.lora_A.default.weight` is `layers.3`, `mlp lora_A`."""
    words = [word for word in name.split(".") if word not in _WRAPPERS]
    role = " ".join(word for word in words if word.startswith("lora_"))
    words = [word for word in words if not word.startswith("lora_")]
    number = next((place for place, word in enumerate(words) if word.isdigit()), None)
    if number is None:
        return ".".join(words), role
    return ".".join(words[: number + 1]), " ".join([*words[number + 1 : number + 2], *([role] if role else [])])


def logged(run: Path, step: int) -> dict[str, float]:
    """The `train/...` metrics that a run's CSV log holds of a step; empty where it has none.

    Lightning's log counts steps from 0. Where a run went over a step twice the last line counts.
    """
    rows = [row for row in read_log(run) if row["step"] == str(step - 1) and row.get("train/loss")]
    found = rows[-1] if rows else {}
    return {name: float(value) for name, value in found.items() if name.startswith("train/") and value}


def verdict(value: float | None, before: float | None) -> str:
    """Whether a replayed number is the logged one, in words."""
    if before is None:
        return "not in the run's log"
    if value is None:
        return f"logged: {before:.9g}"
    if value == before or math.isclose(value, before, rel_tol=TOLERANCE) or (math.isnan(value) and math.isnan(before)):
        return "equal to the log"
    return f"differs from the logged {before:.9g} by {value - before:+.3g}"


def find_start(run: Path, step: int, resumed_from: str | None) -> Path | None:
    """The newest checkpoint before a step, whoever wrote it: one process or several, with ZeRO or without.

    Args:
        run: the run directory.
        step: the step that is to come.
        resumed_from: the checkpoint that the run itself continued.

    Returns:
        The checkpoint; None for the beginning.
    """
    others = [Path(resumed_from)] if resumed_from else []
    written = [
        (int(description["step"]), found)
        for found in [*sorted((run / "checkpoints").glob("step-*")), *others]
        if (description := read_description(found)) and int(description["step"]) < step
    ]
    return max(written, key=itemgetter(0))[1] if written else None


def _norm(tensors: list[Tensor]) -> float | None:
    """Return the Euclidean norm of all numbers; None without tensors."""
    return float(torch.nn.utils.get_total_norm([tensor.float() for tensor in tensors])) if tensors else None
