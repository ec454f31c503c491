"""What is logged at each optimiser step: loss, gradient norm, learning rate, throughput, memory."""

from __future__ import annotations

import logging
import resource
import time
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from musician.data.batches import Batch
from musician.model.flops import (
    describe_peak,
    measured_peak,
    recomputed_flops_per_token,
    training_flops_per_token,
)
from musician.runtime.hardware import DTYPES


class StepMetrics(Callback):
    """Logs `train/...` once an optimiser step, over all micro-batches and ranks.

    `train/loss` is the mean over the supervised tokens of the global batch, `train/tokens_per_second` counts tokens
    that are not padding and `train/useful_share` is their share of all positions. `train/mfu` compares their FLOPs (4N
    for a frozen base) with the rate of matrix products measured on this device when training starts; `train/hfu` also
    counts padding and what checkpointing computes again. `peak` describes what was measured. Both go by the wall clock:
    other work on the machine lowers them. `train/skipped_steps` counts updates left out so far: fp16 overflows, and
    gradients that were not finite (`module.nonfinite`).

    Args:
        every_n_steps: log the step metrics every so many optimiser steps.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        self.every_n_steps = every_n_steps
        self.tokens_seen = 0
        self.seconds_training = 0.0
        #: What MFU and HFU are compared with, in words; None before training starts.
        self.peak: str | None = None
        self._peak = 0.0
        self._lr = 0.0
        self._begin_step()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Measure what the device can do."""
        dtype = compute_dtype(str(trainer.precision))
        peak = measured_peak(pl_module.device, dtype)
        self._peak = peak * trainer.world_size
        self.peak = describe_peak(peak, pl_module.device, dtype, trainer.world_size)
        if trainer.is_global_zero:
            logging.getLogger(__name__).info(f"peak: {self.peak}")
        self._started = time.perf_counter()

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin timing with the first micro-batch of a step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._begin_step()
            # Read before the step: afterwards the schedule has moved on to the next rate.
            self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Measure the gradient before it is clipped; DeepSpeed computes its own norm afterwards."""
        gradients = [p.grad for p in pl_module.parameters() if p.requires_grad and p.grad is not None]
        if gradients:
            self._gradient_norm = float(torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up the micro-batch; after the last one of a step, log."""
        self._loss += float(outputs["share"])
        self._tokens += batch["num_tokens"]
        self._context += sum(length * (length + 1) / 2 for length in batch["document_lengths"])
        self._positions += batch["position_ids"].numel()
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or batch_idx + 1 == trainer.num_training_batches:
            self._finish_step(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Tokens and seconds so far."""
        return {"tokens_seen": self.tokens_seen, "seconds_training": self.seconds_training}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.tokens_seen = state_dict["tokens_seen"]
        self.seconds_training = state_dict["seconds_training"]

    def _begin_step(self) -> None:
        self._loss, self._tokens, self._context, self._positions = 0.0, 0, 0.0, 0
        self._gradient_norm = float("nan")
        self._started = time.perf_counter()

    def _finish_step(self, trainer: lightning.Trainer, module: Any) -> None:
        seconds = time.perf_counter() - self._started
        counted = [self._loss, float(self._tokens), float(self._positions), self._context]
        sums = torch.tensor(counted, dtype=torch.float64, device=module.device)
        loss, tokens, positions, context = (float(value) for value in _summed(trainer, sums))
        self.tokens_seen += int(tokens)
        self.seconds_training += seconds
        context /= max(1.0, positions)
        flops = training_flops_per_token(module.network, context)
        again = recomputed_flops_per_token(module.network, context)
        engine_norm = _engine_norm(trainer)
        values = {
            "train/loss": loss,
            "train/grad_norm": self._gradient_norm if engine_norm is None else engine_norm,
            "train/lr": self._lr,
            "train/tokens_per_second": tokens / seconds,
            "train/useful_share": tokens / max(1.0, positions),
            "train/mfu": tokens / seconds * flops / self._peak if self._peak else float("nan"),
            "train/hfu": positions / seconds * (flops + again) / self._peak if self._peak else float("nan"),
            "train/memory_gib": peak_memory_gib(module.device),
            "train/tokens_seen": float(self.tokens_seen),
            "train/skipped_steps": float(_skipped_steps(trainer, module)),
        }
        if trainer.global_step % self.every_n_steps == 0:
            for name, value in values.items():
                module.log(name, value, prog_bar=name == "train/loss", batch_size=1)


def compute_dtype(precision: str) -> torch.dtype:
    """The type that matrices are multiplied in at one of Lightning's precisions."""
    dtype: torch.dtype = getattr(torch, DTYPES.get(precision.split("-")[0], "float32"))
    return dtype


def peak_memory_gib(device: torch.device) -> float:
    """Most memory this process has held: allocated on the GPU, or resident on the CPU, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _summed(trainer: lightning.Trainer, sums: Tensor) -> Tensor:
    reduced: Tensor = trainer.strategy.reduce(sums, reduce_op="sum")
    return reduced


def _skipped_steps(trainer: lightning.Trainer, module: Any) -> int:
    """Updates left out: DeepSpeed's engine counts those of the policy as well."""
    return max(getattr(trainer.model, "skipped_steps", 0), module.nonfinite.skipped_steps)


def _engine_norm(trainer: lightning.Trainer) -> float | None:
    """Norm of the last global gradient, where a DeepSpeed engine holds it."""
    engine: Any = trainer.model
    norm = engine.get_global_grad_norm() if hasattr(engine, "get_global_grad_norm") else None
    return None if norm is None else float(norm)
