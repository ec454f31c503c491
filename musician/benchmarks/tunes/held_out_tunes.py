"""How well a model predicts tunes it has not seen: nats per token, and bits per note across tokenizers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.accuracy import Z95, ratio_stderr
from musician.data.batches import IGNORED
from musician.data.rendering.conversation import Document
from musician.data.rendering.render import Rendered, Renderer
from musician.model.logits import logits_head
from musician.model.loss import summed_nll
from musician.model.network import evaluating, gathered, hidden_states, output_head
from musician.music.abc.extract import count_notes
from musician.runtime.errors import UserError

ENDS = (("ci95_low", -1), ("ci95_high", 1))


@dataclass(frozen=True)
class TuneLikelihood:
    """What `HeldOutTunes` found.

    Attributes:
        benchmark: its name.
        nats: summed negative log-likelihood.
        tokens: tokens that were predicted.
        notes: sounding notes in the tunes.
        tunes: tunes read.
        standard_error: of nats per token, between tunes (their ratio's, by the delta method).
        seconds: wall time on this rank.
    """

    benchmark: str
    nats: float
    tokens: int
    notes: int
    tunes: int
    standard_error: float
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Return `eval/<benchmark>/nats_per_token` and, where there are notes, `.../bits_per_note`."""
        root = f"eval/{self.benchmark}"
        values = {f"{root}/nats_per_token": self.nats / self.tokens}
        if self.notes:
            values[f"{root}/bits_per_note"] = self.nats / math.log(2) / self.notes
        return values

    def details(self) -> dict[str, float]:
        """Return counts, the standard error and 95 % interval of nats per token, and the wall time."""
        root = f"eval/{self.benchmark}"
        names = ("tunes", "tokens", "notes", "standard_error", "seconds")
        values = {f"{root}/{name}": float(getattr(self, name)) for name in names}
        if self.standard_error == self.standard_error:
            mean, half = self.nats / self.tokens, Z95 * self.standard_error
            values |= {f"{root}/nats_per_token/{end}": mean + sign * half for end, sign in ENDS}
        return values


class HeldOutTunes:
    """Likelihood of whole tunes as documents, first token to the end-of-sequence token.

    Bits per note divides the same total by the number of sounding notes, so that models with other tokenizers compare.

    Args:
        tunes: ABC texts the model has not trained on, nor any tune of their families.
        limit: read only the first so many.
    """

    name = "held_out_tunes"

    def __init__(self, tunes: Sequence[str], limit: int | None = None) -> None:
        self.tunes = list(tunes)[:limit]
        if not self.tunes:
            raise UserError("held_out_tunes: there are no held-out tunes; raise data.validation_fraction")

    def measure(
        self,
        network: nn.Module,
        renderer: Renderer,
        *,
        shard: Shard | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> TuneLikelihood:
        """Read the tunes with a network, as they are rendered for training.

        Each process reads the tunes of its shard; all run the same number of forwards. The network is put in
        evaluation mode meanwhile, and the window is not limited: a tune is one forward.
        """
        started = time.perf_counter()
        rendered = [items[0] for items in renderer.render_batch([Document(text) for text in self.tunes])]
        shard = shard or Shard()
        rounds = -(-len(rendered) // shard.world_size)
        mine: list[tuple[float, int, int]] = []
        with evaluating(network), torch.no_grad():
            for turn in range(rounds):
                place = turn * shard.world_size + shard.rank
                index = min(place, len(rendered) - 1)
                nats, tokens = _read(network, rendered[index])
                if place < len(rendered):
                    mine.append((nats, tokens, count_notes(self.tunes[index])))
                if on_progress:
                    on_progress(turn + 1, rounds)
        found = shard.gather(mine)
        nats, tokens, notes = (sum(column) for column in zip(*found, strict=True))
        error = ratio_stderr([(each, length) for each, length, _ in found])
        return TuneLikelihood(self.name, nats, tokens, notes, len(found), error, time.perf_counter() - started)


def _read(network: nn.Module, tune: Rendered) -> tuple[float, int]:
    """Summed nats and number of predicted tokens of one tune."""
    device = next(network.parameters()).device
    ids = torch.as_tensor(tune.input_ids.astype("int64"), device=device)[None]
    labels = torch.where(torch.as_tensor(tune.supervised, device=device), ids, IGNORED)
    hidden = hidden_states(network, ids, torch.arange(ids.shape[1], device=device)[None])
    # A sharded head would be gathered once a chunk: as often as a tune is long.
    with gathered(output_head(network).parameters()):
        return float(summed_nll(hidden, labels, logits_head(network))), int((labels[:, 1:] != IGNORED).sum())
