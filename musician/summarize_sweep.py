"""The jobs of a sweep side by side: `python -m musician.summarize_sweep directory=DIR`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from musician.launch import door

if TYPE_CHECKING:
    from musician.training.sweep_results import Job


@door("summarize_sweep")
def summarize_sweep(cfg: DictConfig) -> None:
    """Read, test, write, print."""
    from musician.atomic import write_text
    from musician.errors import UserError
    from musician.training.sweep_results import contrasts, read_jobs, verdict

    sweep = Path(cfg.directory or "")
    files = sorted(sweep.glob("*/.hydra/overrides.yaml")) if cfg.directory else []
    if not files:
        raise UserError(f"summarize_sweep: directory={cfg.directory} holds no job; give the directory of a sweep")
    jobs, unfinished = read_jobs({file.parents[1]: [str(word) for word in OmegaConf.load(file)] for file in files})
    if not jobs:
        raise UserError(f"summarize_sweep: no job of {sweep} has finished")
    found = contrasts(jobs)
    rows, told = [as_row(job) for job in jobs], verdict(found)
    tests = [asdict(one) | {"separable": one.separable} for one in found]
    content = {"jobs": rows, "unfinished": unfinished, "tests": tests, "verdict": told}
    write_text(sweep / "sweep.json", json.dumps(content, indent=2) + "\n")
    write_text(sweep / "sweep.csv", as_csv(rows))
    plot(jobs, sweep / "sweep.png")
    show(rows, [*told, *(f"unfinished: {name}" for name in unfinished), f"written: {sweep}/sweep.{{json,csv,png}}"])


def as_row(job: Job) -> dict[str, Any]:
    """Return a job's figures by column."""
    row: dict[str, Any] = {"job": job.name, **job.values, job.summary.objective or "objective": job.summary.value}
    for name, found in job.accuracies.items():
        row |= {name: found.value, f"{name}/low": found.low, f"{name}/high": found.high, f"{name}/n": found.n}
    kept = ("trainable_parameters", "seconds_training", "peak_memory_gib")
    return row | {name: getattr(job.summary, name) for name in kept}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, with the columns of all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def show(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> None:
    """Print the table and what is to be said of it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        cells = [row.get(name) for name in columns]
        table.add_row(
            *(f"{cell:.4g}" if isinstance(cell, float) else "-" if cell is None else str(cell) for cell in cells)
        )
    console.print(table)
    for note in notes:
        console.print(note, markup=False)


def plot(jobs: Sequence[Job], path: Path) -> None:
    """Draw objective, accuracies with 95 % intervals, trained weights, seconds and memory against the swept values."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    benchmarks = list(dict.fromkeys(name for job in jobs for name in job.accuracies))
    figures = ("value", "trainable_parameters", "seconds_training", "peak_memory_gib")
    figure, axes = pyplot.subplots(
        1, len(figures) + len(benchmarks), figsize=(3.2 * (4 + len(benchmarks)), 3.4), constrained_layout=True
    )
    for axis, name in zip(axes, figures, strict=False):
        points = [(job.label, getattr(job.summary, name)) for job in jobs if getattr(job.summary, name) is not None]
        axis.plot([label for label, _ in points], [value for _, value in points], "o-")
        axis.set_title(jobs[0].summary.objective or "objective" if name == "value" else name)
    for axis, name in zip(axes[len(figures) :], benchmarks, strict=True):
        scored = [(job.label, job.accuracies[name]) for job in jobs if name in job.accuracies]
        errors = [[one.value - one.low for _, one in scored], [one.high - one.value for _, one in scored]]
        axis.errorbar([label for label, _ in scored], [one.value for _, one in scored], yerr=errors, fmt="o", capsize=4)
        axis.set_title(f"{name}, 95 % interval")
    figure.supxlabel(" ".join(jobs[0].values))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Run the door."""
    summarize_sweep()


if __name__ == "__main__":
    main()
