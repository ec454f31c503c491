"""What the demo found: one table, a JSON file, a picture, and the tune."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars

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
    """The stages, the curves behind them, and the tune that was asked for, free and under the grammar."""

    stages: tuple[Stage, ...]
    curves: dict[str, list[tuple[int, float]]]
    prompt: str
    tune: str
    tune_check: str
    constrained: str
    constrained_check: str
    seconds: float

    @classmethod
    def of(cls, pretrain: Path, sft: Path, *, prompt: str, tune: str, constrained: str, seconds: float) -> Report:
        """Read the figures from the two run directories."""
        before, pretrained = evaluations(pretrain)
        _, tuned = evaluations(sft)
        logs = {"pretrain": read_log(pretrain), "sft": read_log(sft)}
        val = series(logs["sft"], "val/loss")
        stages = (
            _stage("before", before, None, before[f"{HELD_OUT}/tokens"] / before[f"{HELD_OUT}/seconds"], before),
            _stage("pretrain", pretrained, val[0][1] if val else None, _speed(logs["pretrain"]), pretrained),
            _stage("sft", tuned, val[-1][1] if val else None, _speed(logs["sft"]), tuned),
        )
        curves = {f"{name}/{key}": series(log, key) for name, log in logs.items() for key in ("train/loss", "val/loss")}
        checks = check_tune(tune), check_tune(constrained)
        return cls(stages, curves, prompt, tune, checks[0], constrained, checks[1], seconds)

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
            "tune_check": self.tune_check,
            "constrained": self.constrained,
            "constrained_check": self.constrained_check,
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
        self._draw_losses(axes[0], "pretrain", "continual pre-training")
        self._draw_losses(axes[1], "sft", "instruction tuning")
        self._draw_stages(axes[2], axes[3])
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    def _draw_losses(self, axis: Any, name: str, title: str) -> None:
        styles: dict[str, dict[str, Any]] = {
            "train/loss": {"linewidth": 1.5},
            "val/loss": {"marker": "o", "linestyle": ""},
        }
        for key, style in styles.items():
            points = self.curves[f"{name}/{key}"]
            if points:
                axis.plot(*zip(*points, strict=True), label=key, **style)
        axis.set(title=title, xlabel="step", ylabel="nats per supervised token")
        axis.legend(frameon=False)

    def _draw_stages(self, likelihood: Any, accuracy: Any) -> None:
        names = [stage.name for stage in self.stages]
        bars = likelihood.bar(names, [stage.heldout_nats_per_token for stage in self.stages], color="tab:green")
        likelihood.bar_label(bars, fmt="%.2f")
        likelihood.set(title="held-out tunes", ylabel="nats per token")
        below = [stage.accuracy - stage.accuracy_ci95[0] for stage in self.stages]
        above = [stage.accuracy_ci95[1] - stage.accuracy for stage in self.stages]
        accuracy.errorbar(names, [s.accuracy for s in self.stages], yerr=[below, above], fmt="o", capsize=4)
        accuracy.axhline(0.25, color="grey", linestyle="--", linewidth=1, label="chance")
        title = f"synthetic questions (n={self.stages[0].questions})"
        accuracy.set(title=title, ylabel="accuracy, 95 % interval", ylim=(0, 1))
        accuracy.legend(frameon=False)

    def show(self, directory: Path) -> None:
        """Print the table, the tune and what to try next."""
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, width=None if Console().is_terminal else 120)
        table = Table(title="SmolLM2-135M on real tunes: before and after")
        for heading in ("stage", "nats/token", "bits/note", "SFT loss", "accuracy [95 %]", "tokens/s", "peak GiB"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for stage in self.stages:
            table.add_row(*row(stage))
        console.print(table)
        console.print(
            f"held-out loss fell by {self.heldout_fall:.0%} in pre-training; accuracy is on {self.stages[0].questions} "
            "synthetic questions (chance 25 %); tokens/s before training is scoring speed",
            markup=False,
        )
        console.print(f"\n{self.prompt}\n", style="dim", markup=False)
        console.print(self.tune, markup=False)
        console.print(f"({self.tune_check})\n", style="dim", markup=False)
        console.print("The same under the grammar (constrain=abc):\n", style="dim", markup=False)
        console.print(self.constrained, markup=False)
        console.print(f"({self.constrained_check})\n", style="dim", markup=False)
        minutes = self.seconds / 60
        console.print(f"{minutes:.1f} minutes. Written: {directory}/report.json, report.png, tune.abc", markup=False)
        console.print(next_steps(directory), markup=False)


def row(stage: Stage) -> list[str]:
    """A stage's figures as text, in the order of the table's columns."""
    low, high = stage.accuracy_ci95
    return [
        stage.name,
        f"{stage.heldout_nats_per_token:.3f}",
        f"{stage.heldout_bits_per_note:.2f}",
        "-" if stage.sft_loss is None else f"{stage.sft_loss:.3f}",
        f"{stage.accuracy:.3f} [{low:.3f}, {high:.3f}]",
        f"{stage.tokens_per_second:.0f}",
        f"{stage.peak_memory_gib:.2f}",
    ]


def next_steps(directory: Path) -> str:
    """Commands to try after the demo."""
    return (
        "Next:\n"
        f"  python -m musician.generate model={directory}/sft/merged prompt='Write a reel in G major.'\n"
        f"  python -m musician.eval model={directory}/sft benchmark=[theory,held_out_tunes]\n"
        "  python -m musician.train +experiment=demo_pretrain data.limit_train_rows=200 lora.r=32\n"
        "  python -m musician.train --help"
    )


def check_tune(text: str) -> str:
    """Say in one line what a generated text holds as ABC."""
    tune = parse_tune(text)
    notes = [note for note in tune.notes if note.midi is not None]
    if "K:" not in text or not notes:
        return "no tune was recognised in the answer"
    return f"{len(notes)} notes in {len(tune.bars)} bars; {len(check_bars(tune))} bars do not add up"


def evaluations(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results of the first and of the last evaluation of a run."""
    files = sorted((run / "eval").glob("step-*/results.json"))
    if not files:
        raise FileNotFoundError(f"{run}/eval holds no results.json")
    return json.loads(files[0].read_text()), json.loads(files[-1].read_text())


def read_log(run: Path) -> list[dict[str, str]]:
    """Rows of the CSV logger."""
    with (run / "csv" / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def series(log: Sequence[dict[str, str]], key: str) -> list[tuple[int, float]]:
    """(step, value) of a logged metric, in the order of logging."""
    return [(int(row["step"]), float(row[key])) for row in log if row.get(key)]


def _speed(log: Sequence[dict[str, str]]) -> float:
    """Useful tokens a second: total tokens over total training time, which weights each step by its length."""
    speeds = [value for _, value in series(log, "train/tokens_per_second")]
    seen = [value for _, value in series(log, "train/tokens_seen")]
    tokens = [after - before for before, after in zip([0.0, *seen], seen, strict=False)]
    seconds = sum(count / speed for count, speed in zip(tokens, speeds, strict=True))
    return sum(tokens) / seconds if seconds else math.nan


def _stage(name: str, found: dict[str, Any], sft_loss: float | None, speed: float, memory: dict[str, Any]) -> Stage:
    return Stage(
        name=name,
        heldout_nats_per_token=found[f"{HELD_OUT}/nats_per_token"],
        heldout_bits_per_note=found[f"{HELD_OUT}/bits_per_note"],
        sft_loss=sft_loss,
        accuracy=found[THEORY],
        accuracy_ci95=(found[f"{THEORY}/ci95_low"], found[f"{THEORY}/ci95_high"]),
        questions=int(found[f"{THEORY}/n"]),
        tokens_per_second=speed,
        peak_memory_gib=memory["peak_memory_gib"],
    )
