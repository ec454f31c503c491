"""Metrics in `csv/metrics.csv`, which a run that continues in its directory goes on with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from musician.runtime.atomic import write_text


class CSVLog(CSVLogger):
    """Lightning's CSV logger, which would delete what an earlier part of the run has logged."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of this run's file."""
        if self._experiment is None:
            self._experiment = ContinuedLog(self.log_dir)
        return self._experiment


class ContinuedLog(ExperimentWriter):
    """Appends to the file that is there, from the step on at which training continues.

    Steps that the earlier part took after its last checkpoint are taken again: their lines go when the first line of
    this part is logged, so that no step stands there twice.

    Args:
        log_dir: folder of `metrics.csv`.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._earlier: list[dict[str, str]] = []
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as stream:
                reader = csv.DictReader(stream)
                self._earlier, self.metrics_keys = list(reader), list(reader.fieldnames or [])

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Note a line; the first one decides which earlier lines stay."""
        if self._earlier and step is not None:
            self._keep_before(step, set(metrics_dict) - {"epoch", "step"})
        super().log_metrics(metrics_dict, step)

    def _keep_before(self, step: int, names: set[str]) -> None:
        """Keep lines of earlier steps, and of this one what is not logged again."""
        earlier, self._earlier = self._earlier, []
        kept = [line for line in earlier if not _repeated(line, step, names)]
        if len(kept) < len(earlier):
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.metrics_keys)
            writer.writeheader()
            writer.writerows(kept)
            write_text(Path(self.metrics_file_path), text.getvalue())

    def _check_log_dir_exists(self) -> None:
        """Leave the earlier log where it is; Lightning's writer deletes it here."""


def _repeated(line: dict[str, str], step: int, names: set[str]) -> bool:
    at = int(line["step"])
    return at > step or (at == step and any(line.get(name) for name in names))


def read_log(run: Path) -> list[dict[str, str]]:
    """Return the lines of a run's log; none where it was not logged."""
    file = run / "csv" / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def series(log: Sequence[dict[str, str]], key: str) -> list[tuple[int, float]]:
    """Return (step, value) of a logged metric, in the order of logging."""
    return [(int(line["step"]), float(line[key])) for line in log if line.get(key)]
