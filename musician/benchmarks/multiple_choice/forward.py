"""One forward of a network over right-padded rows, and the log-probabilities read from it.

The head runs in fp32 whatever the network's precision, because half precision makes letters tie, and only on the rows
that are needed: `[tokens, vocabulary]` is never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from musician.model.network import gathered, hidden_states, output_head

HEAD_ROWS = 512

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence to run: either the next-token probability of some letters after it, or its whole likelihood.

    Attributes:
        ids: int32 token ids, `[length]`.
        letters: ids whose log-probability after the last id is wanted; empty for the likelihood of `ids` themselves.
    """

    ids: np.ndarray
    letters: tuple[int, ...] = ()

    @classmethod
    def whole(cls, prefix: np.ndarray, tail: tuple[int, ...]) -> Row:
        """Return the row that scores `prefix + tail` from its second token on."""
        return cls(np.concatenate([prefix, np.asarray(tail, dtype=np.int32)]))

    @classmethod
    def idle(cls) -> Row:
        """Return a row whose result nobody reads: it keeps a rank in step with the others."""
        return cls(np.zeros(1, dtype=np.int32), (0,))


def score_rows(network: nn.Module, rows: Sequence[Row], device: torch.device) -> list[list[float]]:
    """Run rows of one kind in one forward.

    Returns:
        For letter rows the log-probability of each letter, then the probability of all together; for whole rows one
        number, minus the mean negative log-likelihood with the number of tokens (not of targets) as divisor.
    """
    ids, lengths = pad_right(rows, device)
    hidden = hidden_states(network, ids)
    with fp32_head(network, hidden.device) as head:
        if rows[0].letters:
            return letter_logprobs(hidden, lengths, [row.letters for row in rows], head)
        return mean_logprobs(hidden, ids, lengths, head)


def pad_right(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids `[batch, length]` and lengths `[batch]`; attention is causal, so padding behind a row is not seen."""
    lengths = torch.tensor([len(row.ids) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row.ids)] = torch.from_numpy(row.ids)
    return ids.to(device), lengths.to(device)


def letter_logprobs(
    hidden: Tensor, lengths: Tensor, letters: Sequence[tuple[int, ...]], head: Head
) -> list[list[float]]:
    """Return each row's letter log-probabilities and their total probability, from its last position only."""
    last = hidden[torch.arange(len(lengths), device=hidden.device), lengths.to(hidden.device) - 1]
    logprobs = head(last).log_softmax(-1)
    chosen = logprobs.gather(-1, torch.tensor(letters, device=logprobs.device))
    return torch.cat([chosen, chosen.exp().sum(-1, keepdim=True)], dim=-1).tolist()


def mean_logprobs(hidden: Tensor, ids: Tensor, lengths: Tensor, head: Head) -> list[list[float]]:
    """Return each row's summed log-probability from the second token on, over its number of tokens.

    The sum is in float64: its fp32 rounding, some 1e-4, is as large as the gap between close letters.
    """
    targets = ids[:, 1:].to(hidden.device)
    scored = torch.arange(targets.shape[1], device=hidden.device) < (lengths.to(hidden.device) - 1)[:, None]
    owners = scored.nonzero()[:, 0].cpu()
    totals = torch.zeros(len(lengths), dtype=torch.float64)
    pieces = zip(hidden[:, :-1][scored].split(HEAD_ROWS), targets[scored].split(HEAD_ROWS), strict=True)
    logprobs = [head(states).log_softmax(-1).gather(-1, wanted[:, None])[:, 0].cpu() for states, wanted in pieces]
    totals.index_add_(0, owners, torch.cat(logprobs).double())
    return (totals / lengths.cpu())[:, None].tolist()


@contextmanager
def fp32_head(network: nn.Module, device: torch.device) -> Iterator[Head]:
    """Yield the network's output head as a function from hidden states `[rows, hidden]` to fp32 logits.

    The module itself is called, with fp32 copies of its parameters, so that an adapter on the head takes part.
    """
    module = output_head(network)
    with gathered(list(module.parameters())), torch.autocast(device.type, enabled=False):
        weights = {name: parameter.float() for name, parameter in module.named_parameters()}
        yield lambda states: functional_call(module, weights, (states.float(),))
