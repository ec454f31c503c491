"""The LightningModules: one step for all, because the labels carry the mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from musician.data.batches import Batch
from musician.errors import UserError
from musician.model.loss import IGNORED
from musician.model.passes import SummedNLL
from musician.model.schedule import Schedule
from musician.training.evaluation import exchange_objects
from musician.training.layout import recount_batches
from musician.training.nonfinite import NonFinite, require_finite
from musician.training.randomness import random_state, restore_random_state


class CausalLMModule(lightning.LightningModule):
    """Trains a causal LM on the supervised tokens of each batch.

    The loss of an optimiser step is the mean over the supervised tokens of its whole global batch, however that is cut
    into micro-batches and ranks (B24, B26): each micro-batch contributes its sum, divided by the count of the global
    batch, which every batch carries.

    Args:
        network: a causal LM, with or without LoRA.
        optimizer: builds the optimiser from the network.
        schedule: share of the peak learning rate at each step.
        nonfinite: what happens when a loss or gradient is not finite; None stops.
        nll: computes the loss of a micro-batch of `network`; None takes the network's own modules, all at once.
    """

    #: What a step trains on, for the run record.
    objective = "next token"

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule,
        nonfinite: NonFinite | None = None,
        nll: SummedNLL | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.strict_loading = False  # checkpoints hold the trainable weights only
        self._optimizer = optimizer
        self._schedule = schedule
        self._nll = nll or SummedNLL(network)
        self._validation = [0.0, 0.0]
        self.nonfinite = nonfinite or NonFinite()
        #: The micro-batch that was trained on last.
        self.last_batch: Batch | None = None
        self._batch_idx = 0
        self._random_state: dict[str, Any] | None = None

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the negative log-likelihoods of the supervised tokens of a micro-batch, in nats."""
        return self._nll(batch["input_ids"], batch["labels"], batch["position_ids"])

    def forward_by_modules(self, batch: Batch) -> Tensor:
        """Compute the same through every module of the network, whose hooks then run."""
        return self._nll.by_modules(batch["input_ids"], batch["labels"], batch["position_ids"])

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Share of this micro-batch in the mean loss of its global batch, times what Lightning and ZeRO divide by."""
        # Not self(batch): DeepSpeed's hooks would run twice, and end ZeRO-3's trace of the step after one module.
        share = self.forward(batch) / max(1, batch["supervised_in_global_batch"])
        share = self.nonfinite.guard_loss(self, batch, batch_idx, share)
        self.last_batch, self._batch_idx = batch, batch_idx
        divided_by = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return {"loss": share * divided_by, "share": share.detach()}

    def on_after_backward(self) -> None:
        """Check the gradients; under fp16's loss scaling an overflow is expected and its step left out anyway."""
        if self.last_batch is not None and not hasattr(self.trainer.strategy.precision_plugin, "scaler"):
            self.nonfinite.guard_gradient(self, self.last_batch, self._batch_idx)

    def on_train_end(self) -> None:
        """Never end well with weights that are not finite."""
        require_finite(self, self.last_batch)

    def on_validation_epoch_start(self) -> None:
        """Begin a new sum."""
        self._validation = [0.0, 0.0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up nats and supervised tokens."""
        self._validation[0] += float(self(batch))
        self._validation[1] += int((batch["labels"][:, 1:] != IGNORED).sum())

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all supervised tokens of all ranks, in nats per token."""
        sums = torch.tensor(self._validation, dtype=torch.float64, device=self.device)
        total = self.trainer.strategy.reduce(sums, reduce_op="sum")
        if not torch.isfinite(total[0]):
            raise UserError(f"val/loss is {float(total[0])} at step {self.global_step}; lower optimizer.lr and resume")
        self.log("val/loss", (total[0] / total[1].clamp(min=1)).float(), prog_bar=True, sync_dist=True)

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the trained weights, as it is before the first step."""
        return self._optimizer(self.network)

    def configure_optimizers(self) -> Any:
        """AdamW (or what was asked for) and a schedule that counts optimiser steps."""
        optimizer = self.new_optimizer()
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._schedule.factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Move the schedule on, unless an fp16 overflow made DeepSpeed skip the update; Lightning would not ask."""
        engine: Any = self.trainer.model
        if not hasattr(engine, "was_step_applied") or engine.was_step_applied():
            super().lr_scheduler_step(scheduler, metric)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Only what training changes: never the frozen base."""
        state = super().state_dict(*args, **kwargs)
        trainable = {id(parameter) for parameter in self.parameters() if parameter.requires_grad}
        kept = {name for name, p in self.named_parameters(remove_duplicate=False) if id(p) in trainable}
        return {name: value for name, value in state.items() if name in kept}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random state of every rank, so that a resumed run draws the same dropout; a collective call.

        DeepSpeed keeps one copy of what Lightning saves, that of rank 0, and each rank has drawn differently.
        """
        checkpoint["nonfinite_skipped"] = self.nonfinite.skipped
        checkpoint["random_states"] = exchange_objects(random_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state until training starts: building the run draws from it.

        A rank that did not exist takes over the state of one that did.
        """
        recount_batches(checkpoint, self.trainer.accumulate_grad_batches)
        self.nonfinite.skipped = checkpoint.get("nonfinite_skipped", 0)
        states = checkpoint.get("random_states") or [None]
        self._random_state = states[self.global_rank % len(states)]

    def on_train_start(self) -> None:
        """Restore the random state of a resumed run."""
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None


class PretrainModule(CausalLMModule):
    """Continual pre-training: every token of a document is supervised."""

    objective = "documents"


class SFTModule(CausalLMModule):
    """Instruction tuning: the assistant's turns are supervised."""

    objective = "assistant turns"
