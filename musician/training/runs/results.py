"""What one evaluation during training found, and everywhere it goes: files, console, loggers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger

from musician.benchmarks.records import read_records
from musician.benchmarks.run import Illustrated, Outcome, Recorded
from musician.benchmarks.statistics.changes import Change, changes, describe
from musician.benchmarks.statistics.scoreboard import Score, draw, scores, show
from musician.runtime.atomic import write_text
from musician.runtime.progress import show_line
from musician.training.callbacks.metrics import peak_memory_gib
from musician.training.loggers.dashboard import log_picture, log_table

#: Rows of a table of changed answers; the files hold all.
MOST_ROWS = 1000


class EvaluationResults:
    """Collects the outcomes of one evaluation, then writes, prints and logs them.

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
        self._scores: list[Score] = []
        self._asked: list[Any] = []
        self._kept: list[Recorded] = []

    def add(self, benchmark: Any, outcome: Outcome) -> None:
        """Take in what a benchmark found."""
        self.found |= outcome.metrics() | outcome.details()
        self._scores += scores(benchmark, outcome)
        if hasattr(benchmark, "questions"):
            self._asked.append(benchmark)
        if isinstance(outcome, Recorded):
            self._kept.append(outcome)

    def fail(self, name: str, reason: str) -> None:
        """Take in that a benchmark failed."""
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
        if self._scores:
            show(f"evaluation at step {self.step}", self._scores, last or None)
        if self.skipped:
            show_line(f"skipped, beyond the time budget: {', '.join(self.skipped)}", keep=True)
        for benchmark in self._asked:
            self._tell_changes(benchmark, loggers)
        for outcome in self._kept:
            log_table(loggers, f"eval/{outcome.benchmark}/items", *outcome.table())
            if isinstance(outcome, Illustrated):
                tunes = outcome.illustrated(self.folder / outcome.benchmark)
                log_table(loggers, f"eval/{outcome.benchmark}/tunes", *tunes)
            for picture in sorted((self.folder / outcome.benchmark).glob("*.png")):
                log_picture(loggers, f"eval/{outcome.benchmark}/{picture.stem}", picture, self.step)
        picture = self.folder / "accuracy.png"
        draw(picture, self._scores, first, f"step {self.step}")
        if picture.exists():
            log_picture(loggers, "eval/accuracy", picture, self.step)

    def _earlier(self, newest: bool) -> dict[str, float]:
        """The newest or oldest earlier value of each figure, by its name in the table."""
        values: dict[str, float] = {}
        steps = list(self._history.values())
        for found in steps if newest else reversed(steps):
            values |= {name.removeprefix("eval/"): value for name, value in found.items()}
        return values

    def _tell_changes(self, benchmark: Any, loggers: Sequence[Logger]) -> None:
        """Compare with the records of the last evaluation that asked the same benchmark."""
        place = Path(benchmark.name) / "predictions.jsonl"
        earlier = [step for step in self._history if (self.directory / f"step-{step:06d}" / place).is_file()]
        if not earlier:
            return
        before = read_records(self.directory / f"step-{earlier[-1]:06d}" / place)
        found = changes(before, read_records(self.folder / place), benchmark.questions())
        cut = f"; the first {MOST_ROWS} are in the table" if len(found) > MOST_ROWS else ""
        show_line(f"{benchmark.name}: since step {earlier[-1]} {describe(found)}{cut}", keep=True)
        columns = [field.name for field in fields(Change)]
        log_table(loggers, f"eval/{benchmark.name}/changed", columns, [astuple(c) for c in found[:MOST_ROWS]])
