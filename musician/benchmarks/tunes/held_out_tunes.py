"""How well a model predicts tunes it has not seen: nats per token, and bits per note across tokenizers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from musician.benchmarks.benchmark import Benchmark, Result
from musician.benchmarks.multiple_choice.forward import IDLE, Row, score_rows
from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.estimate import Estimate, ratio_stderr
from musician.data.rendering.conversation import Document
from musician.lm.language_model import LanguageModel
from musician.music.abc.extract import count_notes
from musician.runtime.errors import UserError
from musician.runtime.progress import ProgressLine


class HeldOutTunes(Benchmark):
    """Likelihood of whole tunes as documents, first token to the end-of-sequence token.

    Bits per note divides the same total by the number of sounding notes, so that models with other tokenizers compare.
    A tune is one forward, whatever its length.

    Args:
        tunes: ABC texts the model has not trained on, nor any tune of their families.
        limit: read only the first so many.

    Raises:
        UserError: there are no tunes.
    """

    name = "held_out_tunes"

    def __init__(self, tunes: Sequence[str], limit: int | None = None) -> None:
        self.tunes = list(tunes)[:limit]
        if not self.tunes:
            raise UserError("held_out_tunes: there are no held-out tunes; raise data.validation_fraction")

    def run(self, model: LanguageModel, shard: Shard) -> Result:
        """Read the tunes as they are rendered for training; all ranks run the same number of forwards."""
        started = time.perf_counter()
        mine = [self.tunes[i] for i in shard.mine(len(self.tunes))]
        rendered = model.renderer.render_batch([Document(text) for text in mine])
        rows = [Row(items[0].input_ids.astype("int32")) for items in rendered]
        rows += [IDLE] * (-(-len(self.tunes) // shard.world_size) - len(rows))
        found = []
        with torch.no_grad(), ProgressLine(self.name, enabled=shard.rank == 0) as line:
            for turn, row in enumerate(rows):
                ((mean_logprob, *_),) = score_rows(model, [row])
                found.append((-mean_logprob * len(row.ids), len(row.ids) - 1))
                line.update(turn + 1, len(rows))
        tunes = shard.gather_in_order(found[: len(mine)], len(self.tunes))
        nats, tokens = (sum(column) for column in zip(*tunes, strict=True))
        notes = sum(map(count_notes, self.tunes))
        estimates = {"nats_per_token": Estimate.normal(nats / tokens, len(tunes), ratio_stderr(tunes))}
        if notes:
            estimates["bits_per_note"] = Estimate(nats / math.log(2) / notes)
        counts = {"tunes": len(tunes), "tokens": tokens, "notes": notes, "seconds": time.perf_counter() - started}
        return Result(self.name, estimates, counts=counts)
