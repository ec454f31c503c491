"""Which rows each optimiser step sees, and what a rank gets of them.

The order of the data is a function of (seed, epoch) alone; hardware only decides how a global batch is cut up. Every
micro-batch carries the number of supervised tokens of its whole global batch, so that the loss can be the mean over all
of them without a word between the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from musician.data.packing import Rows
from musician.data.store.split import PreparedSplit

#: transformers' label of a position without a target.
IGNORED = -100


class Batch(TypedDict):
    """One micro-batch of one rank.

    Attributes:
        input_ids: `[rows, length]`.
        labels: `[rows, length]`, `IGNORED` where nothing is supervised; the model's output at t-1 predicts labels at t.
        position_ids: `[rows, length]`, restarting at 0 with each document and with the padding.
        document_lengths: of the documents of all rows, one row after another, the padding of a row as one more.
        num_tokens: tokens that are not padding.
        supervised_in_global_batch: supervised tokens of the whole global batch: all micro-batches of all ranks.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    document_lengths: list[int]
    num_tokens: int
    supervised_in_global_batch: int


def row_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """Order of the rows in an epoch: an exact permutation keyed by (seed, epoch), the same for every world size."""
    order = np.arange(num_rows, dtype=np.uint32)
    np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).shuffle(order)
    return order


@dataclass(frozen=True, slots=True)
class Share:
    """The part of each global batch that one rank computes.

    Row j of a global batch goes to micro-batch `j // (world_size * micro_batch_size)`, in it to rank
    `j // micro_batch_size % world_size`: so losses do not depend on how many ranks share the work.
    """

    micro_batch_size: int
    rank: int = 0
    world_size: int = 1


class GlobalBatches(torch.utils.data.Dataset[Batch]):
    """The micro-batches of one rank in one epoch, in order; item i belongs to step `i // accumulation`.

    The last global batch may be smaller. Every rank still gets the same number of micro-batches: a row that is missing
    is one unsupervised token, which adds nothing to the loss.

    Args:
        split: the tokenised documents.
        rows: how they are packed.
        order: the rows in the order of this epoch.
        global_batch_size: rows an optimiser step sees over all ranks and micro-batches.
        share: this rank's part.
        first_step: steps of this epoch already done, for a resumed run.
    """

    def __init__(
        self,
        split: PreparedSplit,
        rows: Rows,
        order: np.ndarray,
        global_batch_size: int,
        share: Share,
        first_step: int = 0,
    ) -> None:
        per_pass = share.micro_batch_size * share.world_size
        if global_batch_size % per_pass:
            raise ValueError(f"global_batch_size={global_batch_size} is not a multiple of {per_pass} rows per pass")
        self.split, self.rows, self.order, self.share = split, rows, order, share
        self.global_batch_size = global_batch_size
        self.accumulation = global_batch_size // per_pass
        self.first_step = first_step
        self._supervised = rows.supervised if rows.supervised is not None else rows.sums(split.supervised_counts())

    @property
    def num_steps(self) -> int:
        """Optimiser steps of a whole epoch."""
        return -(-len(self.order) // self.global_batch_size)

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.accumulation

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        supervised = int(self._supervised[self._members(index)].sum(dtype=np.int64))
        return collate(self.split, self.documents(index), self.share.micro_batch_size, supervised)

    def documents(self, index: int) -> list[np.ndarray]:
        """Documents of each row of a micro-batch; a missing row has no entry."""
        size = self.share.micro_batch_size
        first = (index % self.accumulation * self.share.world_size + self.share.rank) * size
        return [self.rows[row] for row in self._members(index)[first : first + size]]

    def _members(self, index: int) -> np.ndarray:
        start = (index // self.accumulation + self.first_step) * self.global_batch_size
        return self.order[start : start + self.global_batch_size]

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


def collate(split: PreparedSplit, rows: list[np.ndarray], size: int, supervised_in_global_batch: int) -> Batch:
    """Lay documents out in `size` rows, right-padded to the longest.

    Args:
        split: where the documents are.
        rows: document indices of each row; fewer than `size` leaves empty rows.
        size: rows of the micro-batch.
        supervised_in_global_batch: passed through.
    """
    ids_of = [[split.input_ids(document) for document in documents] for documents in rows]
    used = [sum(map(len, row)) for row in ids_of]
    width = max([1, *used])
    document_lengths: list[int] = []
    input_ids = np.full((size, width), split.pad_id, dtype=np.int64)
    labels = np.full((size, width), IGNORED, dtype=np.int64)
    position_ids = np.tile(np.arange(width), (size, 1))
    for row, documents in enumerate(rows):
        start = 0
        for document, narrow in zip(documents, ids_of[row], strict=True):
            # -100 does not exist among unsigned ids, so they widen before the mask.
            ids, supervised = narrow.astype(np.int64), split.supervised(document)
            end = start + len(ids)
            input_ids[row, start:end] = ids
            labels[row, start:end] = np.where(supervised, ids, IGNORED)
            position_ids[row, start:end] = np.arange(len(ids))
            document_lengths.append(len(ids))
            start = end
        position_ids[row, start:] = np.arange(width - start)
        if start < width:
            document_lengths.append(width - start)
    document_lengths += [width] * (size - len(rows))
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        labels=torch.from_numpy(labels),
        position_ids=torch.from_numpy(position_ids),
        document_lengths=document_lengths,
        num_tokens=sum(used),
        supervised_in_global_batch=supervised_in_global_batch,
    )
