"""What a run came to: written when it has finished, and the sign that it has."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

FILE = "summary.json"


@dataclass(frozen=True)
class RunSummary:
    """The last figures of a finished run.

    Attributes:
        step: optimiser steps taken.
        objective: name of the metric that a sweep minimises; None where there is none.
        metrics: last value of each metric.
        trainable_parameters: weights that were trained.
        parameters: all weights; a shared one counts once.
        seconds_training: wall-clock seconds of the optimiser steps, of earlier parts of a resumed run as well.
        tokens_seen: tokens trained on, padding left out.
        peak_memory_gib: most memory that rank 0 held.
        peak: what MFU and HFU are compared with, in words.
        pruned: why the job of a sweep was stopped early; None where it ran to its end.
        stopped: why early stopping ended it; None where it did not.
    """

    step: int
    objective: str | None
    metrics: dict[str, float]
    trainable_parameters: int
    parameters: int
    seconds_training: float | None
    tokens_seen: int | None
    peak_memory_gib: float
    peak: str | None = None
    pruned: str | None = None
    stopped: str | None = None

    @property
    def value(self) -> float | None:
        """The objective's last value."""
        return self.metrics.get(self.objective) if self.objective else None

    def write(self, directory: Path) -> None:
        """Write `summary.json` into a run directory."""
        write_text(directory / FILE, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")


def summarise(trainer: Trainer, objective: str | None, parameters: tuple[int, int]) -> RunSummary:
    """Return the summary of a trainer that has finished.

    Args:
        trainer: after `fit`.
        objective: name of a logged metric.
        parameters: number of trainable and of all weights, counted before a strategy shards them.
    """
    # Imported late: a sweep and `--cfg job` read summaries, and answer in a second without torch.
    from pytorch_lightning.callbacks import EarlyStopping

    from musician.training.callbacks.metrics import StepMetrics, peak_memory_gib
    from musician.training.callbacks.pruning import MedianPruning

    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - set by a connector, unknown to mypy
    counted = next((each for each in callbacks if isinstance(each, StepMetrics)), None)
    pruned = [each.reason for each in callbacks if isinstance(each, MedianPruning)]
    stopped = [each.stopping_reason_message for each in callbacks if isinstance(each, EarlyStopping)]
    metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
    return RunSummary(
        step=trainer.global_step,
        objective=objective,
        metrics={name: value for name, value in metrics.items() if name != "pruned"},
        trainable_parameters=parameters[0],
        parameters=parameters[1],
        seconds_training=counted.seconds_training if counted else None,
        tokens_seen=counted.tokens_seen if counted else None,
        peak_memory_gib=peak_memory_gib(trainer.strategy.root_device),
        peak=counted.peak if counted else None,
        pruned=next(filter(None, pruned), None),
        stopped=next((" ".join(reason.split()) for reason in stopped if reason), None),
    )


def read_summary(directory: Path) -> RunSummary | None:
    """Return the summary of a run directory; None where no run has finished.

    Fields that another version wrote are left out.

    Raises:
        UserError: it is not whole.
    """
    file = directory / FILE
    if not file.is_file():
        return None
    known = {field.name for field in fields(RunSummary)}
    try:
        return RunSummary(**{name: value for name, value in json.loads(file.read_text()).items() if name in known})
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: is not the summary of a run ({error}); remove it, and the job runs again") from error


def read_evaluations(directory: Path) -> list[dict[str, Any]]:
    """Return what the evaluations of a run found, in the order of their steps."""
    return [json.loads(file.read_text()) for file in sorted(directory.glob("eval/step-*/results.json"))]
