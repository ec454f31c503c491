"""The loss of a micro-batch, whole or some of its documents at a time.

Documents of a packed row do not see one another and the loss is a sum over them, so a row may be computed document by
document: activations of a few hundred tokens stay in a CPU's cache and take a fraction of the memory. Documents without
a supervised token and padding are not computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from musician.model.attention import document_lengths
from musician.model.folded import FoldedLlama, refusal
from musician.model.loss import IGNORED, Scratch, summed_nll
from musician.model.network import hidden_states, output_head
from musician.model.ranges import HEAD_AND_LOSS


class Documents(NamedTuple):
    """Whole documents laid end to end.

    Attributes:
        input_ids: `[1, tokens]`.
        labels: `[1, tokens]`.
        position_ids: `[1, tokens]`, 0 where a document begins.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor


class SummedNLL:
    """Sum of the negative log-likelihoods of the supervised tokens of a micro-batch, in nats.

    Args:
        network: a causal LM, with or without LoRA.
        fold_lora: compute the layers with their adapters folded (`musician.model.folded`) where that is possible.
        tokens: documents of at most so many tokens are computed together, at least one document; None computes the
            micro-batch at once. Then the gradient is made in the forward pass, so there must be no loss scale.

    Attributes:
        not_folded: why the network's own modules run although `fold_lora` was asked for; None where they do not.
    """

    def __init__(self, network: nn.Module, fold_lora: bool = False, tokens: int | None = None) -> None:
        self.network = network
        self.tokens = tokens
        self._scratch = Scratch()
        self.not_folded = refusal(network) if fold_lora else None
        self._folded = FoldedLlama(network) if fold_lora and self.not_folded is None else None

    def __call__(self, input_ids: Tensor, labels: Tensor, position_ids: Tensor) -> Tensor:
        """Add up the documents of `[batch, length]` ids, labels (`IGNORED`: none) and positions."""
        self._fold()
        return self._sum(Documents(input_ids, labels, position_ids))

    def of_rows(self, input_ids: Tensor, labels: Tensor, position_ids: Tensor) -> Tensor:
        """The sum of each row, `[batch]`."""
        self._fold()
        batch = Documents(input_ids, labels, position_ids)
        if self.tokens is None:
            pairs = zip(self._hidden(batch).split(1), labels.split(1), strict=True)
            return torch.stack([self._nll(hidden, wanted) for hidden, wanted in pairs])
        rows = zip(*(states.split(1) for states in batch), strict=True)
        return torch.stack([self._sum(Documents(*row)) for row in rows])

    def by_modules(self, input_ids: Tensor, labels: Tensor, position_ids: Tensor) -> Tensor:
        """Compute the sum with the network's own modules, so that their hooks run."""
        return self._nll(hidden_states(self.network, input_ids, position_ids), labels)

    def _fold(self) -> None:
        if self._folded is not None:
            self._folded.fold()

    def _sum(self, batch: Documents) -> Tensor:
        if self.tokens is None:
            return self._of(batch)
        groups = cut(batch, self.tokens)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if not torch.is_grad_enabled() or not trained:
            return sum(map(self._of, groups), torch.zeros((), device=batch.input_ids.device))
        total: Tensor = _InPasses.apply(self._of, groups, *trained)
        return total

    def _of(self, documents: Documents) -> Tensor:
        return self._nll(self._hidden(documents), documents.labels)

    def _hidden(self, documents: Documents) -> Tensor:
        ids, _, positions = documents
        return self._folded(ids, positions) if self._folded else hidden_states(self.network, ids, positions)

    def _nll(self, hidden: Tensor, labels: Tensor) -> Tensor:
        with torch.profiler.record_function(HEAD_AND_LOSS):
            return summed_nll(hidden, labels, output_head(self.network), scratch=self._scratch)


def cut(batch: Documents, tokens: int) -> list[Documents]:
    """Take a batch apart into whole documents, of at most `tokens` together where one is not longer.

    The longest come first and each joins the first group that has room, so that few groups are half empty. Documents in
    which nothing is supervised are left out, and so is padding.
    """
    lengths = document_lengths(batch.position_ids)
    flat = [states.flatten() for states in batch]
    supervised = (flat[1] != IGNORED).long().cumsum(0).tolist()
    kept = []
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        start = end - length
        if supervised[end - 1] > (supervised[start - 1] if start else 0):
            kept.append(slice(start, end))
    groups: list[list[slice]] = []
    rooms: list[int] = []
    for document in sorted(kept, key=lambda document: document.start - document.stop):
        length = document.stop - document.start
        found = next((i for i, room in enumerate(rooms) if room >= length), None)
        if found is None:
            found = len(rooms)
            groups.append([])
            rooms.append(max(tokens, length))
        groups[found].append(document)
        rooms[found] -= length
    return [Documents(*(torch.cat([states[s] for s in group])[None] for states in flat)) for group in groups]


class _InPasses(torch.autograd.Function):
    """A sum whose terms are differentiated one after the other, in the forward pass.

    The sum is a scalar, so the gradients of its terms are known up to one factor before the backward pass begins, and
    no two terms keep activations at one time. What reads gradients (hooks, DDP, ZeRO-1 and 2) finds them where it
    always does, in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, nll: Callable[[Documents], Tensor], groups: Iterable[Documents], *trained: Tensor) -> Tensor:
        gradients = [torch.zeros_like(parameter) for parameter in trained]
        total = torch.zeros((), device=trained[0].device)
        for group in groups:
            with torch.enable_grad():
                term = nll(group)
            for gradient, found in zip(gradients, torch.autograd.grad(term, trained, allow_unused=True), strict=True):
                if found is not None:
                    gradient += found
            total += term.detach()
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(gradient.mul_(grad_outputs[0]) for gradient in gradients)
