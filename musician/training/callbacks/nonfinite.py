"""Losses, gradients and weights that are not finite: where they come from, and what is done about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from musician.data.batches import Batch
from musician.runtime.errors import UserError
from musician.runtime.progress import show_line
from musician.training.callbacks.randomness import random_state, restore_random_state
from musician.training.ranks import exchange_objects

#: Characters of a sample that a message shows.
SHOWN = 80


class NonFinite:
    """What happens when a loss or a gradient is not finite; every rank decides the same.

    Args:
        policy: `stop` ends the run with a message that names rank, step, micro-batch, sample and layer. `skip` says the
            same and goes on. A bad loss leaves its micro-batch out of the step: it adds no gradient, while its tokens
            still count. A bad gradient leaves the step out: neither weights nor learning rate move.
        limit: bad micro-batches that a run may have; one more stops it.

    Raises:
        UserError: another policy or a negative limit.
    """

    def __init__(self, policy: str = "stop", limit: int = 10) -> None:
        if policy not in ("stop", "skip") or limit < 0:
            raise UserError(f"module.nonfinite: policy='{policy}' must be stop or skip and limit={limit} not negative")
        self.policy = policy
        self.limit = limit
        #: Micro-batches left out so far, over all ranks.
        self.skipped = 0
        #: Steps left out so far for a bad gradient.
        self.skipped_steps = 0
        #: Whether the step that is being gathered will be left out.
        self.leaves_out_step = False
        self.gradients = GradientWatch()

    def guard_loss(self, module: lightning.LightningModule, batch: Batch, batch_idx: int, loss: Tensor) -> Tensor:
        """Return the loss of a micro-batch, or where it is not finite obey the policy; every rank takes part.

        Raises:
            UserError: naming the place, on rank 0; the other ranks end quietly.
        """
        bad = not bool(torch.isfinite(loss))
        if not module.trainer.strategy.reduce_boolean_decision(bad, all=False):
            return loss
        layer = first_bad_layer(module, batch)  # a collective call under ZeRO-3: the good ranks run it as well
        found = f"loss is {loss.item()} {place(module, batch, batch_idx)}; {layer}" if bad else None
        self._obey(module, [line for line in exchange_objects(found) if line])
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return sum((p.float().sum() * 0.0 for p in trainable), torch.zeros((), device=loss.device)) if bad else loss

    def guard_gradient(self, module: lightning.LightningModule, batch: Batch, batch_idx: int) -> None:
        """Check what a backward pass gave; every rank takes part.

        With `skip` the whole step is left out: see `leave_out`.

        Raises:
            UserError: naming the place, on rank 0; the other ranks end quietly.
        """
        worst = self.gradients.first_bad()
        if not module.trainer.strategy.reduce_boolean_decision(worst is not None, all=False):
            return
        found = f"gradient is not finite {place(module, batch, batch_idx)}; {worst}" if worst else None
        self._obey(module, [line for line in exchange_objects(found) if line])
        self.leaves_out_step = True

    def leave_out(self, module: nn.Module) -> None:
        """Take the gradients of a step away, and with them the step: the optimiser passes over what has none.

        DeepSpeed has taken the gradients already, and by itself steps over what is not finite.
        """
        if self.leaves_out_step:
            self.skipped_steps += 1
            for parameter in module.parameters():
                parameter.grad = None

    def _obey(self, module: lightning.LightningModule, lines: list[str]) -> None:
        self.skipped += len(lines)
        said = " | ".join(lines)
        if self.policy == "skip" and self.skipped <= self.limit:
            if module.trainer.is_global_zero:
                show_line(f"left out ({self.skipped} of at most {self.limit}): {said}", keep=True)
            return
        why = f"; {self.limit} were left out before (module.nonfinite.limit)" if self.policy == "skip" else ""
        stop(module, f"{said}{why}: lower optimizer.lr, or use a precision with more range")


class GradientWatch:
    """Sees each gradient as the backward pass makes it: of this rank, this micro-batch, before ZeRO takes it away."""

    def __init__(self) -> None:
        self._norms: list[tuple[str, Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def begin(self, module: nn.Module) -> None:
        """Watch the trained weights of a module, and no other's."""
        for hook in self._hooks:
            hook.remove()
        trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        self._hooks = [weight.register_hook(partial(self._note, name)) for name, weight in trained]

    def first_bad(self) -> str | None:
        """Where gradients since the last call began to be not finite, in words; None where all are."""
        noted, self._norms = self._norms, []
        if not noted:
            return None
        norms = torch.stack([norm for _, norm in noted])
        if torch.isfinite(torch.linalg.vector_norm(norms)):  # the only wait for the device
            return None
        worst = next((name for name, norm in noted if not torch.isfinite(norm)), None)
        return f"first in {worst}" if worst else "their norm is too large to be a number"

    def _note(self, name: str, gradient: Tensor) -> None:
        self._norms.append((name, torch.linalg.vector_norm(gradient.detach().float())))


def stop(module: lightning.LightningModule, message: str) -> None:
    """End the run on all ranks, which have agreed to; rank 0 says why."""
    if not module.trainer.is_global_zero:
        raise SystemExit(0)
    raise UserError(f"{message}; the last checkpoint is untouched")


def place(module: Any, batch: Batch, batch_idx: int) -> str:
    """Return where a micro-batch belongs, and the text of its first row in one line, shortened."""
    micro = batch_idx % module.trainer.accumulate_grad_batches
    text = module.trainer.datamodule.renderer.tokenizer.decode(batch["input_ids"][0].tolist())
    sample = repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
    return f"at step {module.global_step}, rank {module.global_rank}, micro-batch {micro} (sample {sample})"


def first_bad_layer(module: Any, batch: Batch) -> str:
    """Run a micro-batch again and name the first layer that makes something infinite of finite values.

    Weights that are not finite already are named instead. Random states are as before afterwards.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights of {name} are not finite already"
    found: list[str] = []
    handles = [
        layer.register_forward_hook(_watch(name, found))
        for name, layer in module.network.named_modules()
        if not any(layer.children())
    ]
    try:
        with undisturbed(), torch.no_grad():
            module.forward(batch)
    finally:
        for handle in handles:
            handle.remove()
    return f"first in layer {found[0]}" if found else "every layer's output is finite: it is the loss itself"


def _watch(name: str, found: list[str]) -> Any:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
            largest = max((float(x.abs().max()) for x in inputs if isinstance(x, Tensor) and x.numel()), default=0.0)
            found.append(f"{name} (largest input {largest:.3g})")

    return hook


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put random states back afterwards."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def require_finite(module: Any, batch: Batch | None) -> None:
    """Refuse to keep weights that are not finite, or with which the last micro-batch has no finite loss.

    A collective call: every rank takes part.

    Raises:
        UserError: on rank 0; the other ranks end quietly.
    """
    bad = [name for name, p in module.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    reason = f"the weights of {bad[0]} are not finite" if bad else None
    if batch is not None:
        with undisturbed(), torch.no_grad():
            if not torch.isfinite(module(batch)) and reason is None:
                reason = "the loss is not finite with the weights of this step"
    reasons = [found for found in exchange_objects(reason) if found]
    if reasons:
        stop(module, f"{reasons[0]} (step {module.global_step}): lower optimizer.lr")
