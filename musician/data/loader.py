"""The micro-batches of a rank, epoch after epoch, with a position that can be saved and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from musician.data.batches import Batch, GlobalBatches

#: Makes the batches of an epoch from (epoch, first step).
BatchesOfEpoch = Callable[[int, int], GlobalBatches]


class EpochLoader:
    """An iterable over the micro-batches of the current epoch.

    Its state is two integers, epoch and optimiser step in it: nothing is replayed or skipped on resume, and the state
    does not depend on the number of ranks.

    Args:
        batches: makes the batches of an epoch from (epoch, first step).
        num_workers: processes that build batches ahead; 0 builds them in this one.
        pin_memory: copy batches to page-locked memory, for a GPU.
    """

    #: Lightning looks at this before it believes `sampler`.
    batch_sampler = None

    def __init__(self, batches: BatchesOfEpoch, num_workers: int = 0, pin_memory: bool = False) -> None:
        self._batches = batches
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._epoch = 0
        self._handed_out = 0
        self._first_step = 0
        self._accumulation = batches(0, 0).accumulation
        self._num_steps = batches(0, 0).num_steps

    @property
    def sampler(self) -> EpochLoader:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows; a new one begins at its first step.

        Never goes back: a run resumed at the end of an epoch names that epoch again, while its position is the next.
        """
        if epoch > self._epoch:
            self._epoch, self._first_step, self._handed_out = epoch, 0, 0

    def __len__(self) -> int:
        """Micro-batches of a whole epoch, also when the next iteration resumes in the middle of one."""
        return self._num_steps * self._accumulation

    def __iter__(self) -> Iterator[Batch]:
        first, self._first_step = self._first_step, 0
        self._handed_out = first * self._accumulation
        loader = DataLoader(
            self._batches(self._epoch, first),
            batch_size=None,
            shuffle=False,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            multiprocessing_context="spawn" if self._num_workers else None,
            generator=torch.Generator(),  # its own: a loader draws a seed even when nothing is shuffled
        )
        for batch in loader:
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Position at the last step boundary."""
        return {"epoch": self._epoch, "step": self._handed_out // self._accumulation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position; a finished epoch continues with the next."""
        self._epoch, step = int(state["epoch"]), int(state["step"])
        if step >= self._num_steps:
            self._epoch, step = self._epoch + 1, 0
        self._first_step, self._handed_out = step, step * self._accumulation
