"""What one evaluation during training found, and everywhere it goes: files, console, loggers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger

from musician.benchmarks.benchmark import Result
from musician.benchmarks.statistics.scoreboard import draw, show
from musician.runtime.atomic import write_text
from musician.runtime.progress import show_line
from musician.training.callbacks.metrics import peak_memory_gib
from musician.training.loggers.dashboard import log_picture, log_table

#: Rows of a table of changed answers; the files hold all.
MOST_ROWS = 1000


class EvaluationResults:
    """Collects the results of one evaluation, then writes, prints and logs them.

    Args:
        directory: folder of all evaluations.
        step: optimiser step.
        history: metrics of the earlier ones, by step.

    Attributes:
        folder: this evaluation's own folder.
        found: metrics and details by name.
        skipped: benchmarks that the time budget left out.
        failed: a line for each that failed.
    """

    def __init__(self, directory: Path, step: int, history: Mapping[int, Mapping[str, float]]) -> None:
        self.directory = directory
        self.step = step
        self.folder = directory / f"step-{step:06d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, float] = {}
        self.skipped: list[str] = []
        self.failed: list[str] = []
        self._history = {step: dict(found) for step, found in sorted(history.items()) if step < self.step}
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        """Add what a benchmark found."""
        self.found |= result.metrics() | result.details()
        self._results.append(result)

    def fail(self, name: str, reason: str) -> None:
        """Add that a benchmark failed."""
        self.found[f"eval/{name}/failed"] = 1.0
        self.failed.append(f"{name} failed ({reason})")

    def publish(self, loggers: Sequence[Logger], device: torch.device) -> None:
        """Write `results.json` and `accuracy.png`, print the table, log all of it; for rank 0."""
        content: dict[str, Any] = {"step": self.step, "peak_memory_gib": peak_memory_gib(device), **self.found}
        if self.failed or self.skipped:
            content |= {"failed": self.failed, "skipped": self.skipped}
        write_text(self.folder / "results.json", json.dumps(content, indent=2, sort_keys=True) + "\n")
        for logger in loggers:
            logger.log_metrics(self.found, step=self.step)
        last, first = self._earlier(newest=True), self._earlier(newest=False)
        scores = [score for result in self._results for score in result.scores()]
        if scores:
            show(f"evaluation at step {self.step}", scores, last or None)
        if self.skipped:
            show_line(f"skipped, beyond the time budget: {', '.join(self.skipped)}", keep=True)
        for result in self._results:
            self._report_changes(result, loggers)
            folder = self.folder / result.benchmark
            for name, table in result.tables(folder).items():
                log_table(loggers, f"eval/{result.benchmark}/{name}", *table)
            for picture in sorted(folder.glob("*.png")):
                log_picture(loggers, f"eval/{result.benchmark}/{picture.stem}", picture, self.step)
        picture = self.folder / "accuracy.png"
        draw(picture, scores, first, f"step {self.step}")
        if picture.exists():
            log_picture(loggers, "eval/accuracy", picture, self.step)

    def _earlier(self, newest: bool) -> dict[str, float]:
        """The newest or oldest earlier value of each figure, by its name in the table."""
        values: dict[str, float] = {}
        steps = list(self._history.values())
        for found in steps if newest else reversed(steps):
            values |= {name.removeprefix("eval/"): value for name, value in found.items()}
        return values

    def _report_changes(self, result: Result, loggers: Sequence[Logger]) -> None:
        """Compare with the last evaluation that ran the same benchmark."""
        for step in reversed(self._history):
            changed = result.changes(self.directory / f"step-{step:06d}" / result.benchmark)
            if changed is not None:
                line, (columns, rows) = changed
                cut = f"; the first {MOST_ROWS} are in the table" if len(rows) > MOST_ROWS else ""
                show_line(f"{result.benchmark}: since step {step} {line}{cut}", keep=True)
                log_table(loggers, f"eval/{result.benchmark}/changed", columns, rows[:MOST_ROWS])
                return
