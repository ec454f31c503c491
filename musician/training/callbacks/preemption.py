"""Stopping when the machine is wanted back: save at the next optimiser step, end with a code that asks to run again."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback

from musician.runtime.errors import REQUEUE
from musician.runtime.progress import show_line
from musician.training.callbacks.checkpoints import Checkpoints

#: A launcher may pass on a signal that the process got itself; within so many seconds two are one.
SAME_SIGNAL = 1.0


class Preemption(Callback):
    """Saves and ends the job after SIGTERM, SIGUSR1 or SIGINT, at the end of the optimiser step that is running.

    The ranks agree at every step, so a signal to any of them stops all at the same one. Rank 0 ends with status 75
    (130 after SIGINT, which is a person's), the others with 0: whoever started them sees one failure and one code.
    While validation and benchmarks run at the end of an epoch the step is saved already, and rank 0 ends at once; a
    resumed run begins with them. A second signal ends the process without saving.

    Replaces Lightning's handler of SIGTERM, which stops between the micro-batches of a step, listens to rank 0 only
    and saves nothing.

    Args:
        checkpoints: saves; None ends the job without.
    """

    def __init__(self, checkpoints: Checkpoints | None = None) -> None:
        self.checkpoints = checkpoints
        self._signal: int | None = None
        self._since = 0.0
        self._evaluating = False
        self._trainer: lightning.Trainer | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen; Lightning puts the earlier handlers back when training is over, however it ends."""
        self._trainer, self._signal, self._evaluating = trainer, None, False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                signal.signal(number, self._note)

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on there is something to save."""
        self._evaluating = False

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Stop after a step; the end of an epoch waits until its validation begins."""
        done = trainer.fit_loop.batch_idx + 1
        if done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches:
            self._stop_if_asked(trainer, pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop before the evaluation of an epoch."""
        if at_epoch_end(trainer):
            self._stop_if_asked(trainer, pl_module)

    def on_validation_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The step is saved by now."""
        self._evaluating = at_epoch_end(trainer)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say nothing of the connection to a rank 0 that has stopped as it was asked to."""
        if self._signal is not None and self._evaluating and not trainer.is_global_zero:
            raise SystemExit(0)

    def _stop_if_asked(self, trainer: lightning.Trainer, module: Any) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            return
        if self.checkpoints is not None:
            self.checkpoints.save(trainer, module, before_evaluation=trainer.validating)
        self._stop(trainer)

    def _stop(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero:
            raise SystemExit(0)
        number = signal.Signals(self._signal or signal.SIGTERM)
        name = number.name if self._signal else "a signal to another rank"
        if self.checkpoints is None:
            saved = "callbacks.checkpoints is off: not saved"
        else:
            saved = f"saved in {self.checkpoints.directory / 'last'}; ckpt_path= continues"
        show_line(f"{name}: stopped after step {trainer.global_step}, {saved}", keep=True)
        if self.checkpoints is None:
            raise SystemExit(128 + number)
        raise SystemExit(130 if number == signal.SIGINT else REQUEUE)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: remember the first, obey the second."""
        assert self._trainer is not None
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
            saved = self.checkpoints is None or self.checkpoints.holds(self._trainer.global_step)
            if self._evaluating and self._trainer.is_global_zero and saved:
                _tell_children(self._trainer, number)
                self._stop(self._trainer)
        elif now - self._since > SAME_SIGNAL:
            _tell_children(self._trainer, signal.SIGKILL)
            os._exit(128 + number)


def at_epoch_end(trainer: lightning.Trainer) -> bool:
    """Whether a validation that begins is that of a whole epoch of a fit."""
    return trainer.state.fn == "fit" and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _tell_children(trainer: lightning.Trainer, number: int) -> None:
    """Send a signal to the ranks that Lightning started."""
    launcher: Any = trainer.strategy.launcher
    for process in getattr(launcher, "procs", ()):
        process.send_signal(number)
