"""Two models' tunes on the same requests: measure by measure, and the ChatMusician paper's percentiles (Appendix F)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import percentileofscore

from musician.benchmarks.benchmark import record_files
from musician.benchmarks.statistics.estimate import Estimate, clustered_standard_error
from musician.benchmarks.tunes.generation import GENERATIONS
from musician.runtime.errors import UserError

Written = Mapping[str, Any]
Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class WrittenDifference:
    """One measure of both models' tunes, over the requests where both have it.

    Attributes:
        n: tunes the requests were made from.
        a: mean of run A.
        b: mean of run B.
        low: lower end of the 95 % interval of B less A, requests of one tune counting as one; nan for a single tune.
        high: its upper end.
    """

    n: int
    a: float
    b: float
    low: float
    high: float

    @property
    def separable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def read_generations(run: Path) -> list[Written] | None:
    """Return the lines that the benchmark `generation` wrote, in a directory of `musician.eval` or a training run.

    Of a training run it is the last evaluation's; None where there are none.
    """
    lines = (line for file in record_files(run, GENERATIONS) for line in file.read_text(encoding="utf-8").splitlines())
    return [json.loads(line) for line in lines] or None


def compare_written(a: Sequence[Written], b: Sequence[Written]) -> dict[str, WrittenDifference]:
    """Compare two runs request by request.

    Raises:
        UserError: no request is in both.
    """
    theirs = {_key(written): written for written in b}
    pairs = [(written, theirs[_key(written)]) for written in a if _key(written) in theirs]
    if not pairs:
        raise UserError("compare: generation: no request is in both runs; use the same tunes, families and seed")
    names = dict.fromkeys(name for one, other in pairs for name in one["values"] if name in other["values"])
    return {name: _difference(name, pairs) for name in sorted(names)}


def _key(written: Written) -> Key:
    return written["family"], written["place"], written["prompt"]


def _difference(name: str, pairs: Sequence[tuple[Written, Written]]) -> WrittenDifference:
    both = [pair for pair in pairs if all(name in each["values"] for each in pair)]
    ours, theirs = ([pair[side]["values"][name] for pair in both] for side in (0, 1))
    places = [one["place"] for one, _ in both]
    gaps = [second - first for first, second in zip(ours, theirs, strict=True)]
    stderr = clustered_standard_error(gaps, places)
    gap = Estimate.normal(math.fsum(gaps) / len(gaps), len(set(places)), stderr)
    mean_a, mean_b = (math.fsum(values) / len(values) for values in (ours, theirs))
    return WrittenDifference(gap.n, mean_a, mean_b, gap.low, gap.high)


def percentiles(runs: Mapping[str, Sequence[Written]]) -> dict[str, dict[str, float]]:
    """Return each run's average percentile on every distance of the paper, 0 to 100, higher is better.

    A sample's percentile is the share of all runs' samples of that distance which it beats, half of those it equals
    counted (the mid-rank; how the paper treats ties it does not say); the paper averages it over a model's samples.
    Samples without a tune have no distance and take the last place.

    Args:
        runs: by name, the same requests answered by each.
    """
    names = sorted(
        {name for run in runs.values() for each in run for name in each["values"] if name.endswith("_distance")}
    )
    return {name: _ranks(name, runs) for name in names}


def _ranks(name: str, runs: Mapping[str, Sequence[Written]]) -> dict[str, float]:
    families = {each["family"] for run in runs.values() for each in run if name in each["values"]}
    found = {
        run: [each["values"].get(name, math.inf) for each in written if each["family"] in families]
        for run, written in runs.items()
    }
    every = [value for values in found.values() for value in values]
    ranks = {run: percentileofscore(every, values, kind="mean") for run, values in found.items() if values}
    return {run: 100 - float(each.mean()) for run, each in ranks.items()}
