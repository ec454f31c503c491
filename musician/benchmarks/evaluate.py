"""A benchmark, a network and a tokenizer give an evaluation."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from torch import nn

from musician.benchmarks.evaluation import Evaluation, subset_accuracies
from musician.benchmarks.multiple_choice.encoding import Encoder
from musician.benchmarks.multiple_choice.likelihood import Likelihood, Progress
from musician.benchmarks.multiple_choice.question import Benchmark
from musician.benchmarks.records import Record, make_record, write_records
from musician.benchmarks.shard import Shard
from musician.data.rendering.render import Renderer
from musician.runtime.errors import UserError

logger = logging.getLogger(__name__)


def evaluate(
    benchmark: Benchmark,
    network: nn.Module,
    tokenizer: Any,
    *,
    scorer: Likelihood | None = None,
    renderer: Renderer | None = None,
    shard: Shard | None = None,
    records_path: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Ask a network every question of a benchmark.

    Each process scores the questions of its shard. All run the same number of forwards (those with
    fewer run idle ones), because under ZeRO-3 each is a collective.

    Args:
        benchmark: what to ask; every rank must have loaded the same questions.
        network: a causal LM, also wrapped by peft.
        tokenizer: its tokenizer.
        scorer: method, batch sizes, window; None for the defaults.
        renderer: renders the prompts of a benchmark in chat format.
        shard: this process's share; None for all of it.
        records_path: where rank 0 writes one JSON line for each question, atomically.
        on_progress: called with (sequences done, sequences in all) of this rank.

    Returns:
        The same evaluation on every rank, but for `seconds`.
    """
    started = time.perf_counter()
    shard = shard or Shard()
    scorer = scorer or Likelihood()
    encoder = scorer.encoder(network, tokenizer, benchmark, renderer)
    records = collect_records(benchmark, network, encoder, scorer, shard, on_progress)
    if shard.rank == 0 and records_path is not None:
        write_records(Path(records_path), records)
    accuracies = subset_accuracies(records, benchmark.subsets)
    evaluation = Evaluation.of(benchmark, records, accuracies, encoder.bos, time.perf_counter() - started)
    if shard.rank == 0:
        for note in evaluation.notes():
            logger.warning("%s: %s", benchmark.name, note)
    return evaluation


def collect_records(
    benchmark: Benchmark,
    network: nn.Module,
    encoder: Encoder,
    scorer: Likelihood,
    shard: Shard,
    on_progress: Progress | None,
) -> Sequence[Record]:
    """Score this rank's questions and return all ranks' records in the benchmark's order."""
    questions = benchmark.questions()
    if not questions:
        raise UserError(f"benchmark '{benchmark.name}' has no questions; check its subjects and limit.")
    mine = shard.mine(len(questions))
    prompts = [encoder.fit(benchmark, questions[i]) for i in mine]
    scores = scorer.score_encoded(network, prompts, agree=shard.most, on_progress=on_progress)
    local = [
        (i, make_record(benchmark, questions[i], prompt, score, encoder.bos))
        for i, prompt, score in zip(mine, prompts, scores, strict=True)
    ]
    numbered = sorted(shard.gather(local), key=itemgetter(0))
    if [i for i, _ in numbered] != list(range(len(questions))):
        raise ValueError(f"the ranks sent {len(numbered)} records for {len(questions)} questions")
    return [record for _, record in numbered]
