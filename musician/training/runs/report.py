"""What the demo found: one table, a JSON file, a picture, and the tune."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musician.music.analysis.check import check_bars
from musician.music.analysis.measures import first_tune
from musician.training.loggers.csv_log import read_log, series
from musician.training.runs.summary import read_evaluations

HELD_OUT = "eval/held_out_tunes"
THEORY = "eval/theory/all"


@dataclass(frozen=True)
class Stage:
    """Figures after one stage of the demo.

    Attributes:
        name: `before`, `pretrain` or `sft`.
        heldout_nats_per_token: of held-out tunes as documents.
        heldout_bits_per_note: the same total per sounding note.
        sft_loss: nats per supervised token of held-out tasks; None where it was not measured.
        accuracy: share of right answers to the synthetic questions.
        accuracy_ci95: its 95 % Wilson interval.
        questions: how many there are.
        tokens_per_second: tokens a second of training; for `before` of scoring the held-out tunes.
        peak_memory_gib: most memory the stage's process held.
    """

    name: str
    heldout_nats_per_token: float
    heldout_bits_per_note: float
    sft_loss: float | None
    accuracy: float
    accuracy_ci95: tuple[float, float]
    questions: int
    tokens_per_second: float
    peak_memory_gib: float


@dataclass(frozen=True)
class Report:
    """The stages, the logs behind them, and the tune that was asked for, free and under the grammar.

    Attributes:
        stages: in order.
        logs: rows of the CSV logs of `pretrain` and `sft`.
        prompt: of the tune.
        tune: as the model writes it.
        constrained: the same under the grammar.
        seconds: of the whole demo.
    """

    stages: Sequence[Stage]
    logs: Mapping[str, Sequence[dict[str, str]]]
    prompt: str
    tune: str
    constrained: str
    seconds: float

    @classmethod
    def of(cls, pretrain: Path, sft: Path, *, prompt: str, tune: str, constrained: str, seconds: float) -> Report:
        """Read the figures from the two run directories.

        Raises:
            FileNotFoundError: a run has no evaluation.
        """
        found = {run: read_evaluations(run) for run in (pretrain, sft)}
        for run, evaluations in found.items():
            if not evaluations:
                raise FileNotFoundError(f"{run}/eval holds no results.json")
        before, pretrained, tuned = found[pretrain][0], found[pretrain][-1], found[sft][-1]
        logs = {"pretrain": read_log(pretrain), "sft": read_log(sft)}
        losses: list[float | None] = [value for _, value in series(logs["sft"], "val/loss")] or [None]
        stages = (
            _stage("before", before, None, before[f"{HELD_OUT}/tokens"] / before[f"{HELD_OUT}/seconds"]),
            _stage("pretrain", pretrained, losses[0], _speed(logs["pretrain"])),
            _stage("sft", tuned, losses[-1], _speed(logs["sft"])),
        )
        return cls(stages, logs, prompt, tune, constrained, seconds)

    @property
    def heldout_fall(self) -> float:
        """Share by which pre-training lowered held-out nats per token."""
        return 1.0 - self.stages[1].heldout_nats_per_token / self.stages[0].heldout_nats_per_token

    def write(self, directory: Path) -> None:
        """Write `report.json`, `report.png`, `tune.abc` and `tune_constrained.abc`."""
        content = {
            "stages": [asdict(stage) for stage in self.stages],
            "heldout_fall": self.heldout_fall,
            "seconds": self.seconds,
            "prompt": self.prompt,
            "tune": self.tune,
            "tune_check": describe_tune(self.tune),
            "constrained": self.constrained,
            "constrained_check": describe_tune(self.constrained),
        }
        (directory / "report.json").write_text(json.dumps(content, indent=2) + "\n")
        (directory / "tune.abc").write_text(self.tune + "\n")
        (directory / "tune_constrained.abc").write_text(self.constrained + "\n")
        self.plot(directory / "report.png")

    def plot(self, path: Path) -> None:
        """Draw the losses of both runs, and likelihood and accuracy after each stage."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.8), constrained_layout=True)
        titles = ("continual pre-training", "instruction tuning")
        for axis, log, title in zip(axes, self.logs.values(), titles, strict=False):
            for key, style in (("train/loss", "-"), ("val/loss", "o")):
                if points := series(log, key):
                    axis.plot(*zip(*points, strict=True), style, label=key)
            axis.set(title=title, xlabel="step", ylabel="nats per supervised token")
            axis.legend(frameon=False)
        names = [stage.name for stage in self.stages]
        axes[2].bar_label(axes[2].bar(names, [stage.heldout_nats_per_token for stage in self.stages]), fmt="%.2f")
        axes[2].set(title="held-out tunes", ylabel="nats per token")
        ends = zip(
            *((s.accuracy - s.accuracy_ci95[0], s.accuracy_ci95[1] - s.accuracy) for s in self.stages), strict=True
        )
        axes[3].errorbar(names, [stage.accuracy for stage in self.stages], yerr=list(ends), fmt="o", capsize=4)
        axes[3].axhline(0.25, color="grey", linestyle="--", linewidth=1, label="chance")
        title = f"synthetic questions (n={self.stages[0].questions})"
        axes[3].set(title=title, ylabel="accuracy, 95 % interval", ylim=(0, 1))
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    def show(self, directory: Path) -> None:
        """Print the table, the tune and what to try next."""
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, width=None if Console().is_terminal else 120)
        table = Table(title="SmolLM2-135M on real tunes: before and after")
        for heading in ("stage", "nats/token", "bits/note", "SFT loss", "accuracy [95 %]", "tokens/s", "peak GiB"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for stage in self.stages:
            table.add_row(
                stage.name,
                f"{stage.heldout_nats_per_token:.3f}",
                f"{stage.heldout_bits_per_note:.2f}",
                "-" if stage.sft_loss is None else f"{stage.sft_loss:.3f}",
                "{:.3f} [{:.3f}, {:.3f}]".format(stage.accuracy, *stage.accuracy_ci95),
                f"{stage.tokens_per_second:.0f}",
                f"{stage.peak_memory_gib:.2f}",
            )
        console.print(table)
        console.print(
            f"held-out loss fell by {self.heldout_fall:.0%} in pre-training; accuracy is on {self.stages[0].questions} "
            "synthetic questions (chance 25 %); tokens/s before training is scoring speed",
            *("", self.prompt, "", self.tune, f"({describe_tune(self.tune)})", ""),
            *("The same under the grammar (constrain=abc):", "", self.constrained),
            *(f"({describe_tune(self.constrained)})", ""),
            f"{self.seconds / 60:.1f} minutes. Written: {directory}/report.json, report.png, tune.abc",
            "Next:",
            f"  python -m musician.generate model={directory}/sft/merged prompt='Write a reel in G major.'",
            f"  python -m musician.eval model={directory}/sft benchmark=[theory,held_out_tunes]",
            "  python -m musician.train +experiment=demo_pretrain data.limit_train_rows=200 lora.r=32",
            "  python -m musician.train --help",
            sep="\n",
            markup=False,
        )


def describe_tune(text: str) -> str:
    """Return in one line what a generated text holds as ABC."""
    tune = first_tune(text)
    if tune is None:
        return "no tune was recognised in the answer"
    notes = [note for note in tune.notes if note.midi is not None]
    return f"{len(notes)} notes in {len(tune.bars)} bars; {len(check_bars(tune))} bars do not add up"


def _speed(log: Sequence[dict[str, str]]) -> float:
    """Useful tokens a second: total tokens over total training time, which weights each step by its length."""
    speeds = [value for _, value in series(log, "train/tokens_per_second")]
    seen = [value for _, value in series(log, "train/tokens_seen")]
    tokens = [after - before for before, after in zip([0.0, *seen], seen, strict=False)]
    seconds = sum(count / speed for count, speed in zip(tokens, speeds, strict=True))
    return sum(tokens) / seconds if seconds else math.nan


def _stage(name: str, found: Mapping[str, Any], sft_loss: float | None, speed: float) -> Stage:
    return Stage(
        name=name,
        heldout_nats_per_token=found[f"{HELD_OUT}/nats_per_token"],
        heldout_bits_per_note=found[f"{HELD_OUT}/bits_per_note"],
        sft_loss=sft_loss,
        accuracy=found[THEORY],
        accuracy_ci95=(found[f"{THEORY}/ci95_low"], found[f"{THEORY}/ci95_high"]),
        questions=int(found[f"{THEORY}/n"]),
        tokens_per_second=speed,
        peak_memory_gib=found["peak_memory_gib"],
    )
