"""The protocol of all benchmarks: a benchmark runs on a language model and returns a result."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.estimate import Estimate
from musician.benchmarks.statistics.scoreboard import Score
from musician.lm.language_model import LanguageModel
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

#: Columns and rows.
Table = tuple[list[str], list[list[Any]]]


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        benchmark: its name; the figures are named `eval/<benchmark>/<figure>`.
        estimates: figures that are worth a curve, by name.
        more: other figures.
        counts: numbers without an interval, such as seconds.
        headlines: names of `estimates` for a table; empty for all.
        chance: accuracy of guessing, where `headlines` are accuracies.
        records: one dataclass instance for each item, by the name of the file that holds them.
    """

    benchmark: str
    estimates: Mapping[str, Estimate]
    more: Mapping[str, Estimate] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    headlines: Sequence[str] = ()
    chance: float | None = None
    records: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return the values of `estimates`: what belongs on a dashboard."""
        return {f"eval/{self.benchmark}/{name}": found.value for name, found in self.estimates.items()}

    def details(self) -> dict[str, float]:
        """Return the other values, and of all figures `/n`, `/stderr`, `/ci95_low` and `/ci95_high` where defined."""
        values: dict[str, float] = {name: found.value for name, found in self.more.items()} | dict(self.counts)
        for name, found in (*self.estimates.items(), *self.more.items()):
            parts = {"stderr": found.stderr, "ci95_low": found.low, "ci95_high": found.high}
            values |= {f"{name}/n": found.n} if found.n else {}
            values |= {f"{name}/{key}": value for key, value in parts.items() if not math.isnan(value)}
        return {f"eval/{self.benchmark}/{name}": value for name, value in values.items()}

    def scores(self) -> list[Score]:
        """Return the headlines as lines of a table."""
        shown = {name: self.estimates[name] for name in self.headlines or self.estimates}
        intervals = {name: (_defined(each.low), _defined(each.high)) for name, each in shown.items()}
        return [
            Score(f"{self.benchmark}/{name}", each.value, *intervals[name], each.n or None, self.chance)
            for name, each in shown.items()
        ]

    def write(self, folder: Path) -> None:
        """Write the records as JSON lines; a reader sees the old file or the whole new one."""
        for name, records in self.records.items():
            write_lines(folder / name, records)

    def tables(self, folder: Path) -> dict[str, Table]:
        """Return tables for a dashboard by name; a cell may be the path of a file that `write` put into `folder`."""
        return {}

    def changes(self, earlier: Path) -> tuple[str, Table] | None:
        """Compare with the records that an earlier result wrote into a folder; None where there is nothing to compare.

        Returns:
            A line for the console, and a table of the items that changed.
        """
        return None


class Benchmark(ABC):
    """Something a language model is measured by.

    Attributes:
        name: first part of every figure's name. What changes the protocol is part of it, so that figures that do not
            compare never share a curve.
    """

    name: str

    @abstractmethod
    def run(self, model: LanguageModel, shard: Shard) -> Result:
        """Measure a model.

        Every process of the shard takes part and returns the same figures, times aside. No random number of the global
        generators is drawn.

        Args:
            model: its network is in evaluation mode.
            shard: the share of this process.
        """

    def questions(self) -> Sequence[Any]:
        """Return what must not occur in training data: questions with `subject`, `index`, `stem`, `stored_options`."""
        return ()


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Write dataclass instances as JSON lines, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records))


def record_files(run: Path, name: str) -> list[Path]:
    """Return the files of a name that results wrote into a run.

    Args:
        run: an output directory of `musician.eval`, or a training run directory, of which the last evaluation counts.
        name: of a file in `Result.records`.
    """
    steps = [*run.glob("eval/step-*"), *run.glob("step-*")]
    steps.sort(key=lambda folder: int(folder.name.removeprefix("step-")) if folder.name[5:].isdigit() else -1)
    found = (sorted([*folder.glob(name), *folder.glob(f"*/{name}")]) for folder in (run, *reversed(steps)))
    return next(filter(None, found), [])


def refuse_sharded(model: LanguageModel, name: str) -> None:
    """Refuse a network whose parameters ZeRO-3 has sharded: its ranks would have to write answers in step.

    Raises:
        UserError: it is such a network.
    """
    if any(hasattr(parameter, "ds_id") for parameter in model.network.parameters()):
        raise UserError(f"{name}: not under ZeRO-3; evaluate the checkpoint afterwards with musician.eval")


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
