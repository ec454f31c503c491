"""One forward of a network over right-padded rows, and the log-probabilities read from it.

The body computes in the precision of the model. The head runs in fp32 whatever that is, because half precision makes
letters tie, and only on the rows that are needed: `[tokens, vocabulary]` is never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from musician.lm.language_model import LanguageModel
from musician.model.logits import logits_adjustment
from musician.model.network import gathered, hidden_states, output_head

HEAD_ROWS = 512

#: From final hidden states `[rows, width]` to fp32 logits `[rows, vocabulary]`.
Logits = Callable[[Tensor], Tensor]


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


#: A row whose result nobody reads: it keeps a rank in step with the others.
IDLE = Row(np.zeros(1, dtype=np.int32), (0,))


def score_rows(model: LanguageModel, rows: Sequence[Row]) -> list[list[float]]:
    """Run rows of one kind in one forward.

    Returns:
        For letter rows the log-probability of each letter, then the probability of all together; for whole rows one
        number, minus the mean negative log-likelihood with the number of tokens (not of targets) as divisor.
    """
    ids, lengths = pad_right(rows, model.device)
    with model.autocast():
        hidden = hidden_states(model.network, ids)
    with fp32_logits(model.network, hidden.device) as logits:
        if rows[0].letters:
            last = hidden[torch.arange(len(rows), device=hidden.device), lengths.to(hidden.device) - 1]
            return letter_logprobs(last, [row.letters for row in rows], logits)
        return mean_logprobs(hidden, ids, lengths, logits)


def pad_right(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids `[batch, length]` and lengths `[batch]`; attention is causal, so padding behind a row is not seen."""
    lengths = torch.tensor([len(row.ids) for row in rows])
    ids = pad_sequence([torch.from_numpy(row.ids).long() for row in rows], batch_first=True)
    return ids.to(device), lengths.to(device)


def letter_logprobs(last: Tensor, letters: Sequence[tuple[int, ...]], logits: Logits) -> list[list[float]]:
    """Return each row's letter log-probabilities and their total probability, from its last state `[rows, width]`."""
    logprobs = logits(last).log_softmax(-1)
    chosen = logprobs.gather(-1, torch.tensor(letters, device=logprobs.device))
    return torch.cat([chosen, chosen.exp().sum(-1, keepdim=True)], dim=-1).tolist()


def mean_logprobs(hidden: Tensor, ids: Tensor, lengths: Tensor, logits: Logits) -> list[list[float]]:
    """Return each row's summed log-probability from the second token on, over its number of tokens.

    The sum is in float64: its fp32 rounding, some 1e-4, is as large as the gap between close letters.
    """
    targets = ids[:, 1:].to(hidden.device)
    scored = torch.arange(targets.shape[1], device=hidden.device) < (lengths.to(hidden.device) - 1)[:, None]
    owners = scored.nonzero()[:, 0].cpu()
    totals = torch.zeros(len(lengths), dtype=torch.float64)
    pieces = zip(hidden[:, :-1][scored].split(HEAD_ROWS), targets[scored].split(HEAD_ROWS), strict=True)
    logprobs = [logits(states).log_softmax(-1).gather(-1, wanted[:, None])[:, 0].cpu() for states, wanted in pieces]
    totals.index_add_(0, owners, torch.cat(logprobs).double())
    return (totals / lengths.cpu())[:, None].tolist()


@contextmanager
def fp32_logits(network: nn.Module, device: torch.device) -> Iterator[Logits]:
    """Yield the map from final hidden states to fp32 logits, scaled or capped as the network's class does.

    A head with an adapter is called as a module, with fp32 copies of its parameters. A plain matrix is multiplied
    without such a call: under ZeRO-3 each call is a collective, and ranks have different numbers of chunks.
    """
    head, adjust = output_head(network), logits_adjustment(network)
    with gathered(list(head.parameters())), torch.autocast(device.type, enabled=False):
        weights = {name: parameter.float() for name, parameter in head.named_parameters()}

        def logits(states: Tensor) -> Tensor:
            if type(head) is nn.Linear:
                scores = functional.linear(states.float(), **weights)
            else:
                scores = functional_call(head, weights, (states.float(),))
            return scores if adjust is None else adjust(scores)

        yield logits
