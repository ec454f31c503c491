"""Run any benchmark on any network, with progress, and say in a line what it found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from musician.benchmarks.evaluate import evaluate
from musician.benchmarks.held_out_tunes import HeldOutTunes
from musician.benchmarks.likelihood import Likelihood
from musician.data.render import Renderer
from musician.progress import ProgressLine


class Outcome(Protocol):
    """What a benchmark found."""

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return the values for a dashboard."""
        ...

    def details(self) -> dict[str, float]:
        """Return counts and intervals."""
        ...


def run_benchmark(
    benchmark: Any,
    network: nn.Module,
    renderer: Renderer,
    records: Path | None = None,
    scorer: Likelihood | None = None,
    rank: int = 0,
    world_size: int = 1,
    gather: Callable[[list[Any]], list[Any]] | None = None,
) -> Outcome:
    """Run one benchmark, of questions or of held-out tunes, showing progress on rank 0."""
    shared: dict[str, Any] = {"rank": rank, "world_size": world_size, "gather": gather}
    with ProgressLine(benchmark.name, enabled=rank == 0) as line:
        if isinstance(benchmark, HeldOutTunes):
            return benchmark.measure(network, renderer, on_progress=line.update, **shared)
        path = records / benchmark.name / "predictions.jsonl" if records else None
        return evaluate(
            benchmark,
            network,
            renderer.tokenizer,
            records_path=path,
            scorer=scorer,
            renderer=renderer,
            on_progress=line.update,
            **shared,
        )


def summary(outcome: Outcome) -> str:
    """One line for the console: each metric, with its 95 % interval where it has one."""
    details = outcome.details()
    parts = []
    for name, value in outcome.metrics().items():
        low, high = details.get(f"{name}/ci95_low"), details.get(f"{name}/ci95_high")
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
        parts.append(f"{name.removeprefix('eval/')} {value:.3f}{interval}")
    return "; ".join(parts)
