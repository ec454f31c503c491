"""What the jobs of a sweep came to, and which of their differences are more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from musician.benchmarks.multiple_choice.records import Record, prediction_files, read_run
from musician.benchmarks.multiple_choice.result import subset_accuracies
from musician.benchmarks.statistics.comparison import compare, subsets_of
from musician.benchmarks.statistics.paired import SIGNIFICANT, holm
from musician.benchmarks.statistics.scoreboard import Score
from musician.training.callbacks.validation import ValidationRows, loss_difference, read_validation
from musician.training.runs.summary import RunSummary, read_evaluations, read_summary

#: The figure of a validation.
LOSS = "val/loss"


@dataclass(frozen=True)
class Job:
    """A finished job.

    Attributes:
        name: of its directory.
        values: what the sweep set, by key.
        summary: its last figures.
        scores: the headline figure of each benchmark in its last evaluation, by name, and `val/loss`.
        records: its answers there, by benchmark.
        validation: its last validation; None where it had none.
    """

    name: str
    values: Mapping[str, str]
    summary: RunSummary
    scores: Mapping[str, Score]
    records: Mapping[str, Sequence[Record]]
    validation: ValidationRows | None = None


@dataclass(frozen=True)
class Contrast:
    """Two jobs on the questions of a benchmark that both answered, or on the rows of their validation.

    Attributes:
        benchmark: its name, or `val/loss`.
        a: name of the first job.
        b: name of the second.
        n: shared questions or rows.
        difference: accuracy of `b` less that of `a`, or of its loss in nats per token.
        p_value: see `Difference`.
        adjusted: the same after Holm's correction for all contrasts of the sweep.
    """

    benchmark: str
    a: str
    b: str
    n: int
    difference: float
    p_value: float
    adjusted: float

    @property
    def separable(self) -> bool:
        """Whether it is more than noise."""
        return self.adjusted < SIGNIFICANT

    def __str__(self) -> str:
        size = f"{self.difference:+.4g}" if self.benchmark == LOSS else f"{self.difference * 100:+.1f} points"
        return f"{self.benchmark}: {self.b} against {self.a} {size}, n={self.n}, Holm p={self.adjusted:.3g}"


def read_jobs(overrides: Mapping[Path, Sequence[str]]) -> tuple[list[Job], list[str]]:
    """Return the finished jobs in the order of their values, and the names of the unfinished.

    Args:
        overrides: `key=value` of each job, by directory.
    """
    values = swept_values(overrides)
    finished, unfinished = [], []
    for directory in overrides:
        summary = read_summary(directory)
        if summary is None:
            unfinished.append(directory.name)
            continue
        records = read_run(directory) if prediction_files(directory) else {}
        scores = {name: headline(name, found) for name, found in records.items()} | measures(directory, records)
        validation = read_validation(directory)
        loss = {} if validation is None else {LOSS: loss_score(summary, validation)}
        finished.append(Job(directory.name, values[directory], summary, loss | scores, records, validation))
    return sorted(finished, key=lambda job: [_in_order(value) for value in job.values.values()]), sorted(unfinished)


def swept_values(overrides: Mapping[Path, Sequence[str]]) -> dict[Path, dict[str, str]]:
    """Return, for each job, the overrides that are not the same in all."""
    split = {job: dict(word.partition("=")[::2] for word in words) for job, words in overrides.items()}
    keys = dict.fromkeys(key for words in split.values() for key in words)
    swept = [key for key in keys if len({words.get(key, "-") for words in split.values()}) > 1]
    return {job: {key: words.get(key, "-") for key in swept} for job, words in split.items()}


def loss_score(summary: RunSummary, validation: ValidationRows) -> Score:
    """Return a job's validation loss with its 95 % interval."""
    value, half = summary.metrics[LOSS], validation.half_width
    low, high = (None, None) if math.isnan(half) else (value - half, value + half)
    return Score(LOSS, value, low, high, len(validation.tokens))


def headline(benchmark: str, records: Sequence[Record]) -> Score:
    """Return the accuracy that stands for a benchmark, with Wilson's 95 % interval."""
    name = headline_name(benchmark, records)
    found = subset_accuracies(records, subsets_of(benchmark, list({record.subject for record in records})))[name]
    return Score(benchmark, found.value, found.low, found.high, found.n)


def measures(directory: Path, asked: Iterable[str]) -> dict[str, Score]:
    """Return what benchmarks without questions found in the last evaluation, likelihoods for instance.

    Args:
        directory: of the run.
        asked: benchmarks with questions, which are left out.
    """
    found: dict[str, Any] = next(reversed(read_evaluations(directory)), {})
    low, high = "/ci95_low", "/ci95_high"
    names = [name.removesuffix(low) for name in found if name.endswith(low)]
    return {
        name.removeprefix("eval/"): Score(
            name.removeprefix("eval/"), found[name], found[name + low], found[name + high], None
        )
        for name in names
        if name.split("/")[1] not in asked
    }


def headline_name(benchmark: str, records: Sequence[Record]) -> str:
    """Return the subset that stands for a benchmark: `micro` of MMLU, `all` of others; every question counts once."""
    names = [subset.name for subset in subsets_of(benchmark, list({record.subject for record in records}))]
    return "micro" if "micro" in names else "all"


def contrasts(jobs: Sequence[Job]) -> list[Contrast]:
    """Test each two jobs on their validation and each benchmark both have, Holm-corrected over all these tests.

    Pruned jobs are left out: they were trained for less.

    Raises:
        UserError: two jobs were asked differently, or share no question.
    """
    found = []
    for a, b in combinations([job for job in jobs if not job.summary.pruned], 2):
        if a.validation and b.validation and (loss := loss_difference(a.validation, b.validation)):
            found.append((LOSS, a.name, b.name, len(a.validation.tokens), *loss))
        for name in (name for name in a.records if name in b.records):
            differences = compare(a.records[name], b.records[name], resamples=1000).differences
            one = differences[headline_name(name, a.records[name])]
            found.append((name, a.name, b.name, one.n, one.value, one.p_value))
    adjusted = holm([row[-1] for row in found])
    return [Contrast(*row, value) for row, value in zip(found, adjusted, strict=True)]


def verdict(found: Sequence[Contrast]) -> list[str]:
    """Say which jobs are separable from noise."""
    if not found:
        return ["no two jobs that ran to their end have a validation or a benchmark in common: nothing was tested"]
    told = [str(one) for one in found if one.separable]
    tests = "1 paired test" if len(found) == 1 else f"{len(found)} paired tests, Holm-corrected"
    return told or [f"nothing is separable from noise: {tests}, at 5 %"]


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value
