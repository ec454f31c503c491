"""When benchmarks run during training; what they measure is their own business."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback

from musician.benchmarks.run import run_benchmark, summary
from musician.data.render import Renderer
from musician.progress import show_line
from musician.training.metrics import peak_memory_gib


class Evaluations(Callback):
    """Runs every benchmark before training, at epoch ends, and at the end; logs `eval/<benchmark>/<subset>`.

    The network in training is used as it is, LoRA attached, in evaluation mode; no second copy is made. A benchmark
    draws no random number, so training goes on as if it had not run.

    Args:
        benchmarks: by name.
        renderer: the training's renderer.
        directory: where per-item records go, under `step-NNNNNN/`.
        every_n_epochs: run at the end of every so many epochs.
        at_start: also run before the first step.
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Any],
        renderer: Renderer,
        directory: str | Path,
        every_n_epochs: int = 1,
        at_start: bool = True,
    ) -> None:
        self.benchmarks = dict(benchmarks)
        self.renderer = renderer
        self.directory = Path(directory)
        self.every_n_epochs = every_n_epochs
        self.at_start = at_start
        #: Metrics and details of each evaluation so far, by step.
        self.history: dict[int, dict[str, float]] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Score the model as it came."""
        if self.at_start and trainer.global_step == 0:
            self.run(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Score the model at the end of an epoch."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        if last or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.run(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What was found so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what was found before."""
        self.history = state_dict["history"]

    def run(self, trainer: lightning.Trainer, module: Any) -> None:
        """Run all benchmarks now; every rank takes part."""
        step = trainer.global_step
        found: dict[str, float] = {}
        gather = partial(gather_lists, world_size=trainer.world_size)
        for benchmark in self.benchmarks.values():
            outcome = run_benchmark(
                benchmark,
                module.network,
                self.renderer,
                self.directory / f"step-{step:06d}",
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                gather=gather,
            )
            if trainer.is_global_zero:
                show_line(summary(outcome), keep=True)
            found |= outcome.metrics() | outcome.details()
            trainer.callback_metrics.update({k: torch.tensor(v) for k, v in outcome.metrics().items()})
        self.history[step] = found
        if trainer.is_global_zero:
            self._write(step, found, peak_memory_gib(module.device))
        for logger in trainer.loggers:
            logger.log_metrics(found, step=step)

    def _write(self, step: int, found: dict[str, float], memory: float) -> None:
        folder = self.directory / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"step": step, "peak_memory_gib": memory, **found}
        (folder / "results.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def gather_lists(items: list[Any], world_size: int) -> list[Any]:
    """Concatenate the lists of all ranks, on every rank."""
    if world_size == 1:
        return items
    lists: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(lists, items)
    return [item for part in lists for item in part]
