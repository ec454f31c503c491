"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Checkpoint

from musician.model.checkpoint import describe, save_weights
from musician.model.lora import trainable_parameters
from musician.model.network import gathered
from musician.runtime.atomic import point, publish
from musician.runtime.errors import UserError
from musician.training.callbacks.nonfinite import require_finite
from musician.training.runs.failures import is_lost_peer


class Checkpoints(Checkpoint):
    """Writes a checkpoint at each epoch end and every `every_n_steps`; keeps the newest few and the best.

    Each appears under its name only when it is whole; `last` and `best` are links. A process killed at any moment
    leaves the previous checkpoint as it was. The last step of an epoch is written before its validation, so that a kill
    while it is evaluated costs the evaluation only, and again with what was found.

    Args:
        directory: folder of the checkpoints.
        tokenizer: saved beside the weights.
        description: facts every checkpoint carries: base model, template, canary prompts.
        every_n_steps: None writes at epoch ends only.
        keep: newest checkpoints to keep besides the best.
        monitor: logged metric that decides which is best; None takes the newest.
        mode: `min` or `max`.
    """

    def __init__(
        self,
        directory: str | Path,
        tokenizer: Any,
        description: dict[str, Any] | None = None,
        every_n_steps: int | None = None,
        keep: int = 1,
        monitor: str | None = "val/loss",
        mode: str = "min",
    ) -> None:
        if keep < 1 or mode not in ("min", "max"):
            raise UserError(f"callbacks.checkpoints: keep={keep} must be at least 1 and mode='{mode}' be min or max")
        self.directory = Path(directory)
        self.tokenizer = tokenizer
        self.description = description or {}
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.best_value: float | None = None
        self._last_saved = (-1, False)
        self._saving = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Make the folder."""
        if trainer.is_global_zero:
            self.directory.mkdir(parents=True, exist_ok=True)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Save every so many optimiser steps, and the last of a run that ends within an epoch.

        The end of an epoch waits for its validation. A run that `max_steps` ends sooner must be saved here: once the
        epoch's end has begun, Lightning's state says that the whole epoch is done.
        """
        if trainer.fit_loop.batch_idx + 1 >= trainer.num_training_batches:
            return
        at_boundary = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if at_boundary and (due or trainer.global_step == trainer.max_steps):
            self.save(trainer, pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the last step of an epoch before it is evaluated, which may take long."""
        if trainer.state.fn == "fit" and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.save(trainer, pl_module, before_evaluation=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save when an epoch, its validation and its benchmarks are done."""
        self.save(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the end of a run that stops in the middle of an epoch."""
        self.save(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value of a resumed run."""
        self.best_value = state_dict["best_value"]

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Make a state saved before the evaluation of an epoch continue with it.

        Lightning takes an epoch whose batches are done for evaluated, unless a batch of its validation had begun.
        """
        if trainer.validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for count in (progress["total"], progress["current"]):
                count.update(ready=1, started=1, processed=0, completed=0)

    def holds(self, step: int) -> bool:
        """Whether the newest checkpoint is whole and of this step."""
        return self._last_saved[0] == step and not self._saving

    def save(self, trainer: lightning.Trainer, module: Any, before_evaluation: bool = False) -> None:
        """Write one checkpoint; a collective call: every rank takes part.

        Args:
            trainer: whose state it is.
            module: holds the network.
            before_evaluation: the epoch's metrics are not known yet; a second call for the step adds them.

        Raises:
            UserError: the weights are not finite, or the disk is full or was taken away; earlier checkpoints stay.
        """
        step = trainer.global_step
        if (step, before_evaluation) == self._last_saved or step == 0:
            return
        require_finite(module, module.last_batch)
        self._last_saved, self._saving = (step, before_evaluation), True
        target = self.directory / f"step-{step:06d}"
        partial = target.with_name(f".{target.name}.partial")
        value = None if before_evaluation else self._monitored(trainer)
        improved = self._is_better(value)
        if improved:
            self.best_value = value
        try:
            if trainer.is_global_zero:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()  # never the run directory again, which may have been removed
            trainer.strategy.barrier()
            trainer.save_checkpoint(partial / "state.ckpt", weights_only=False)
            trainer.strategy.barrier()
            with gathered(trainable_parameters(module.network).values()):
                if trainer.is_global_zero:
                    save_weights(module.network, self.tokenizer, partial)
            if trainer.is_global_zero:
                describe(partial, {**self.description, **_facts(trainer, before_evaluation)})
                publish(partial, target)
                point(self.directory / "last", target)
                if improved or not (self.directory / "best").exists():
                    point(self.directory / "best", target)
                self._prune()
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if is_lost_peer(error):
                raise
            if not self.directory.is_dir():
                raise UserError(f"checkpoint {target}: its directory was removed or moved while training") from error
            raise UserError(
                f"checkpoint {target}: cannot be written ({error}); earlier ones are whole: free the disk and resume"
            ) from error
        self._saving = False

    def _monitored(self, trainer: lightning.Trainer) -> float | None:
        if self.monitor is None or self.monitor not in trainer.callback_metrics:
            return None
        return float(trainer.callback_metrics[self.monitor])

    def _is_better(self, value: float | None) -> bool:
        if value is None:
            return self.monitor is None
        if self.best_value is None:
            return True
        return value < self.best_value if self.mode == "min" else value > self.best_value

    def _prune(self) -> None:
        # By time, not by step: a run resumed from an older checkpoint writes smaller steps than those that stand there.
        saved = sorted(self.directory.glob("step-*"), key=lambda path: path.stat().st_mtime_ns)
        linked = {(self.directory / link).resolve() for link in ("best", "last")}
        for old in saved[: -self.keep]:
            if old.resolve() not in linked:
                shutil.rmtree(old)


def _facts(trainer: lightning.Trainer, before_evaluation: bool) -> dict[str, Any]:
    """Where training stands; before an evaluation its metrics are those of an earlier step."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if before_evaluation:
        metrics = {name: value for name, value in metrics.items() if name.startswith("train/")}
    return {"step": trainer.global_step, "epoch": trainer.current_epoch, "metrics": metrics}
