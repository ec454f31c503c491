"""The state of every random generator that training draws from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.seed import reset_seed
from pytorch_lightning.callbacks import Callback


def random_state() -> dict[str, Any]:
    """States of the generators of torch (CPU and this process's GPU), numpy and Python."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators of this process back to what `random_state` found."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


class RanksInTurn(Callback):
    """Lets one process draw what the ranks of a run drew: each micro-batch begins where its rank had stopped.

    The ranks take the rows of a step in turn, so micro-batch i of this process is one of rank `i % ranks`. All ranks
    begin a run with the same state, that of the seed: Lightning sets it once more where there are several.

    Args:
        ranks: processes of the run.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._states: list[dict[str, Any]] = []

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Begin where several ranks begin."""
        if self.ranks > 1:
            reset_seed()

    def on_load_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take the states that the checkpoint has, as the ranks of the run did."""
        found = checkpoint["random_states"]
        self._states = [found[rank % len(found)] for rank in range(self.ranks)]

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Become the rank of this micro-batch."""
        self._states = self._states or [random_state()] * self.ranks
        restore_random_state(self._states[batch_idx % self.ranks])

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember where this rank stopped."""
        self._states[batch_idx % self.ranks] = random_state()
