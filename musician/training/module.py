"""The LightningModules: one step for all, because the labels carry the mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from musician.data.batches import IGNORED, Batch
from musician.model.logits import check_against_class, logits_head
from musician.model.loss import summed_nll
from musician.model.network import evaluating, hidden_states
from musician.model.schedule import Schedule
from musician.runtime.errors import UserError
from musician.training.callbacks.nonfinite import NonFinite, require_finite
from musician.training.callbacks.randomness import random_state, restore_random_state
from musician.training.callbacks.validation import ValidationRows, in_order
from musician.training.ranks import exchange_objects
from musician.training.state import recount_batches


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
    """

    #: What a step trains on, for the run record.
    objective = "next token"

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule,
        nonfinite: NonFinite | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.strict_loading = False  # checkpoints hold the trainable weights only
        self._optimizer = optimizer
        self._schedule = schedule
        self._validated: list[tuple[int, float, int]] = []
        #: The rows of the last validation, of all ranks; None before there was one.
        self.validation: ValidationRows | None = None
        self.nonfinite = nonfinite or NonFinite()
        #: The micro-batch that was trained on last.
        self.last_batch: Batch | None = None
        self._batch_idx = 0
        self._is_checked = False
        self._random_state: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Compare the logits that are trained on with those of the model's own class, once.

        Raises:
            UserError: they differ however they are computed.
        """
        if (
            self._is_checked
        ):  # Lightning sets up for a validation and for the fit; ZeRO-3 has sharded the weights by then
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        with evaluating(self.network):
            check_against_class(self.network, packed=getattr(datamodule, "packing", True))
        self._is_checked = True

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the negative log-likelihoods of the supervised tokens of a micro-batch, in nats."""
        return summed_nll(self._hidden_states(batch), batch["labels"], logits_head(self.network))

    def _hidden_states(self, batch: Batch) -> Tensor:
        return hidden_states(self.network, batch["input_ids"], batch["position_ids"], batch["document_lengths"])

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Share of this micro-batch in the mean loss of its global batch, times what Lightning and ZeRO divide by."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.nonfinite.leaves_out_step = False
        # Not self(batch): DeepSpeed's hooks would run twice, and end ZeRO-3's trace of the step after one module.
        share = self.forward(batch) / max(1, batch["supervised_in_global_batch"])
        share = self.nonfinite.guard_loss(self, batch, batch_idx, share)
        self.last_batch, self._batch_idx = batch, batch_idx
        divided_by = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return {"loss": share * divided_by, "share": share.detach()}

    def on_after_backward(self) -> None:
        """Check the gradients; under fp16's loss scaling an overflow is expected and its step left out anyway."""
        if self.last_batch is not None and self._checks_gradients:
            self.nonfinite.guard_gradient(self, self.last_batch, self._batch_idx)

    @property
    def _checks_gradients(self) -> bool:
        return not str(self.trainer.precision).startswith("16")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Leave a step out whose gradient was not finite, where that is the policy."""
        self.nonfinite.leave_out(self)

    def on_train_end(self) -> None:
        """Never end well with weights that are not finite."""
        require_finite(self, self.last_batch)

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self._validated = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Note nats and supervised tokens of each row, with its index among all rows."""
        supervised = (batch["labels"][:, 1:] != IGNORED).sum(1).tolist()
        first = (batch_idx * self.trainer.world_size + self.global_rank) * len(supervised)
        head = logits_head(self.network)
        rows = zip(self._hidden_states(batch).split(1), batch["labels"].split(1), strict=True)
        nats = [float(summed_nll(hidden, labels, head)) for hidden, labels in rows]
        self._validated += zip(range(first, first + len(nats)), nats, supervised, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all supervised tokens of all ranks, in nats per token."""
        self.validation = in_order([row for rows in exchange_objects(self._validated) for row in rows])
        nats, tokens = math.fsum(self.validation.nats), sum(self.validation.tokens)
        if not math.isfinite(nats):
            raise UserError(f"val/loss is {nats} at step {self.global_step}; lower optimizer.lr and resume")
        loss = torch.tensor(nats / max(1, tokens), device=self.device)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True)

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
        """Move the schedule on, unless the update was left out, by DeepSpeed for an fp16 overflow or by the policy."""
        engine: Any = self.trainer.model
        applied = engine.was_step_applied() if hasattr(engine, "was_step_applied") else True
        if applied and not self.nonfinite.leaves_out_step:
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
        checkpoint["nonfinite_skipped_steps"] = self.nonfinite.skipped_steps
        checkpoint["random_states"] = exchange_objects(random_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state until training starts: building the run draws from it.

        A rank that did not exist takes over the state of one that did.
        """
        recount_batches(checkpoint, self.trainer.accumulate_grad_batches)
        self.nonfinite.skipped = checkpoint.get("nonfinite_skipped", 0)
        self.nonfinite.skipped_steps = checkpoint.get("nonfinite_skipped_steps", 0)
        states = checkpoint.get("random_states") or [None]
        self._random_state = states[self.global_rank % len(states)]

    def on_train_start(self) -> None:
        """Watch the gradients; restore the random state of a resumed run."""
        if self._checks_gradients:
            self.nonfinite.gradients.begin(self)
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None


class PretrainModule(CausalLMModule):
    """Continual pre-training: every token of a document is supervised."""

    objective = "documents"


class SFTModule(CausalLMModule):
    """Instruction tuning: the assistant's turns are supervised."""

    objective = "assistant turns"
