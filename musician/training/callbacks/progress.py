"""Where a training run stands: a live line in a terminal, a plain one now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback

from musician.runtime.progress import clear_line, show_line


class StepProgress(Callback):
    """Shows step, loss, speed and time left on rank 0.

    Args:
        plain_interval: seconds between lines where there is no terminal; the first and the last step always show.
    """

    def __init__(self, plain_interval: float = 15.0) -> None:
        self.plain_interval = plain_interval
        self._began, self._reported = 0.0, float("-inf")
        self._first_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._began, self._reported = time.monotonic(), float("-inf")
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Say how far along it is."""
        now = time.monotonic()
        total = int(trainer.estimated_stepping_batches)
        ended = trainer.global_step >= total
        due = now - self._reported >= (0.2 if sys.stderr.isatty() else self.plain_interval)
        if not trainer.is_global_zero or trainer.global_step == self._first_step or not (due or ended):
            return
        self._reported = now
        done = trainer.global_step - self._first_step
        left = (total - trainer.global_step) * (now - self._began) / max(1, done)
        metrics = trainer.callback_metrics
        loss, speed = (float(metrics.get(f"train/{name}", float("nan"))) for name in ("loss", "tokens_per_second"))
        show_line(f"step {trainer.global_step}/{total}  loss {loss:.3f}  {speed:.0f} tokens/s  {left:.0f} s left")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave the terminal clean."""
        if trainer.is_global_zero:
            clear_line()
