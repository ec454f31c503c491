"""Run any benchmark on any network, with progress, and say what it found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from musician.benchmarks.evaluate import evaluate
from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.benchmarks.shard import Shard
from musician.data.rendering.render import Renderer
from musician.runtime.progress import ProgressLine


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


@runtime_checkable
class Recorded(Protocol):
    """An outcome with something to keep for each item."""

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        ...

    def write(self, folder: Path) -> None:
        """Write it into the folder."""
        ...

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows for a dashboard."""
        ...


@runtime_checkable
class Illustrated(Protocol):
    """An outcome of which something can be seen or heard."""

    def illustrated(self, folder: Path) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows for a dashboard, with paths of what was written into the folder."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A benchmark that measures by itself, because it asks no multiple-choice questions."""

    name: str

    def measure(
        self,
        network: nn.Module,
        renderer: Renderer,
        *,
        shard: Shard | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Measure a network; every process of the shard takes part and returns the same."""
        ...


def run_benchmark(
    benchmark: Any,
    network: nn.Module,
    renderer: Renderer,
    records: Path | None = None,
    scorer: Likelihood | None = None,
    shard: Shard | None = None,
) -> Outcome:
    """Run one benchmark, of questions or one that measures by itself, showing progress on rank 0.

    Args:
        benchmark: what to run.
        network: a causal LM, also wrapped by peft.
        renderer: the renderer of its training.
        records: folder in which each benchmark keeps its items, as `NAME/predictions.jsonl`.
        scorer: settings of the likelihood scorer.
        shard: this process's share; None for all of it.
    """
    shard = shard or Shard()
    with ProgressLine(benchmark.name, enabled=shard.rank == 0) as line:
        if isinstance(benchmark, Measuring):
            outcome = benchmark.measure(network, renderer, shard=shard, on_progress=line.update)
            if records and shard.rank == 0 and isinstance(outcome, Recorded):
                outcome.write(records / benchmark.name)
            return outcome
        return evaluate(
            benchmark,
            network,
            renderer.tokenizer,
            records_path=records / benchmark.name / "predictions.jsonl" if records else None,
            scorer=scorer,
            renderer=renderer,
            on_progress=line.update,
            shard=shard,
        )
