"""Stopping a job of a sweep that does worse than the others did: the median stopping rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback

from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError, nearest
from musician.runtime.progress import show_line

#: Holds what a job measured, by optimiser step, for the other jobs of its sweep.
FILE = "objective.json"


class MedianPruning(Callback):
    """Ends training when its best value so far is worse than the median of what the finished jobs had at this step.

    The median stopping rule (Golovin et al. 2017, Google Vizier, 3.2.1) as Optuna's `MedianPruner` has it: only jobs
    that ran to their end are compared with. The jobs read one another's values from the sweep's directory, so any
    sweeper and launcher will do. A job that was pruned ends like one that finished, with its last value as objective,
    its summary says that it was, and `pruned` is in `trainer.callback_metrics`.

    Args:
        directory: of the run; `objective.json` there holds its values.
        sweep_dir: of the sweep; None compares with nothing.
        monitor: `val/loss`, or a benchmark's figure such as `eval/theory/all`.
        mode: `min` or `max`, whichever is better.
        startup_jobs: compare once so many jobs have finished.
        warmup_steps: and after so many optimiser steps.

    Raises:
        UserError: an argument that cannot be; while training, nothing measures `monitor`.
    """

    def __init__(
        self,
        directory: str | Path,
        sweep_dir: str | Path | None = None,
        monitor: str = "val/loss",
        mode: str = "min",
        startup_jobs: int = 3,
        warmup_steps: int = 0,
    ) -> None:
        if mode not in ("min", "max") or startup_jobs < 1 or warmup_steps < 0:
            raise UserError(
                f"callbacks.pruning: mode='{mode}' must be min or max, startup_jobs={startup_jobs} at least 1, "
                f"warmup_steps={warmup_steps} at least 0"
            )
        self.directory = Path(directory)
        self.sweep_dir = None if sweep_dir is None else Path(sweep_dir)
        self.monitor = monitor
        self.mode = mode
        self.startup_jobs = startup_jobs
        self.warmup_steps = warmup_steps
        #: What was measured so far, by step.
        self.values: dict[int, float] = {}
        #: Why training was stopped.
        self.reason: str | None = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare a validation."""
        if trainer.state.fn == "fit" and not self.monitor.startswith("eval/"):
            self._compare(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Compare a benchmark that ran after this step."""
        benchmark = "/".join(self.monitor.split("/")[:2])
        measured_at = trainer.callback_metrics.get(f"{benchmark}/step")
        if benchmark.startswith("eval/") and measured_at == trainer.global_step:
            self._compare(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare a benchmark that ran at the end of the epoch."""
        self.on_train_batch_end(trainer, pl_module)
        if not self.values:
            raise UserError(
                f"callbacks.pruning.monitor: an epoch has not measured '{self.monitor}'"
                f"{nearest(self.monitor, sorted(trainer.callback_metrics))}; it needs a validation or a benchmark"
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Let the other jobs compare with this one, which ran to its end."""
        if trainer.is_global_zero and self.reason is None and not trainer.interrupted:
            self._write(finished=True)

    def state_dict(self) -> dict[str, Any]:
        """What was measured so far."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.values = state_dict["values"]

    def _compare(self, trainer: lightning.Trainer) -> None:
        step, value = trainer.global_step, trainer.callback_metrics.get(self.monitor)
        if value is None or step == 0 or step in self.values:
            return
        self.values[step] = float(value)
        self.reason = trainer.strategy.broadcast(self._decide(step) if trainer.is_global_zero else None)
        if self.reason is not None:
            trainer.should_stop = True
            trainer.callback_metrics["pruned"] = torch.tensor(1.0)

    def _decide(self, step: int) -> str | None:
        """Compare with the jobs that have finished; for rank 0."""
        self._write(finished=False)
        if self.sweep_dir is None or step < self.warmup_steps:
            return None
        others = list(finished_jobs(self.sweep_dir, self.monitor))
        bar = None if len(others) < self.startup_jobs else median_at(step, others)
        best = min(self.values.values()) if self.mode == "min" else max(self.values.values())
        if bar is None or (best <= bar if self.mode == "min" else best >= bar):
            return None
        than = f"{bar:.4g}, the median of the finished jobs ({len(others)})"
        reason = f"{self.monitor} {best:.4g} at step {step} is worse than {than}"
        show_line(f"pruned: {reason}", keep=True)
        return reason

    def _write(self, finished: bool) -> None:
        content = {"metric": self.monitor, "values": self.values, "finished": finished}
        write_text(self.directory / FILE, json.dumps(content) + "\n")


def median_at(step: int, jobs: Sequence[Mapping[int, float]]) -> float | None:
    """The median of what jobs had measured by a step: each one's value at the last step that is not later."""
    reached = [values[max(past)] for values in jobs if (past := [one for one in values if one <= step])]
    return median(reached) if reached else None


def finished_jobs(sweep: Path, metric: str) -> Iterator[dict[int, float]]:
    """Yield the values by step of the jobs of a sweep that ran to their end."""
    for file in sorted(sweep.glob(f"*/{FILE}")):
        content = json.loads(file.read_text())
        if content["finished"] and content["metric"] == metric:
            yield {int(step): value for step, value in content["values"].items()}
