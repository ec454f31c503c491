"""The jobs of a sweep side by side: `python -m musician.sweep directory=DIR`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.tables import print_table

if TYPE_CHECKING:
    from musician.training.runs.sweep_results import Job

#: What a column of figures is called where there is little room.
_HEADINGS = {"trainable_parameters": "trained\nweights", "seconds_training": "seconds", "peak_memory_gib": "GiB"}


@command("sweep")
def main(cfg: DictConfig) -> None:
    """Read, test, write, print, log."""
    from musician.runtime.atomic import write_text
    from musician.runtime.errors import UserError
    from musician.training.runs.sweep_plot import draw_sweep
    from musician.training.runs.sweep_results import contrasts, read_jobs, verdict

    sweep = Path(cfg.directory or "")
    files = sorted(sweep.glob("*/.hydra/overrides.yaml")) if cfg.directory else []
    if not files:
        raise UserError(f"sweep: directory={cfg.directory} has no job; name the directory of a sweep")
    jobs, unfinished = read_jobs({file.parents[1]: [str(word) for word in OmegaConf.load(file)] for file in files})
    if not jobs:
        raise UserError(f"sweep: no job of {sweep} has finished")
    found = contrasts(jobs)
    rows, separable = [as_row(job) for job in jobs], verdict(found)
    pruned = [f"pruned: {job.name}, {job.summary.pruned}" for job in jobs if job.summary.pruned]
    tests = [asdict(one) | {"separable": one.separable} for one in found]
    content = {"jobs": rows, "unfinished": unfinished, "tests": tests, "verdict": separable}
    write_text(sweep / "sweep.json", json.dumps(content, indent=2) + "\n")
    write_text(sweep / "sweep.csv", as_csv(rows))
    draw_sweep(jobs, separable, sweep / "sweep.png")
    left = [f"unfinished: {name}" for name in unfinished]
    show(rows, [*separable, *pruned, *left, f"written: {sweep}/sweep.{{json,csv,png}}"])
    log(sweep, files[0].with_name("config.yaml"), rows)


def as_row(job: Job) -> dict[str, Any]:
    """Return a job's figures by column."""
    row: dict[str, Any] = {"job": job.name, **job.values, job.summary.objective or "objective": job.summary.value}
    for name, found in job.scores.items():
        row |= {name: found.value, f"{name}/low": found.low, f"{name}/high": found.high}
        row |= {} if found.n is None else {f"{name}/n": found.n}
    kept = ("step", "trainable_parameters", "seconds_training", "peak_memory_gib")
    return row | {name: getattr(job.summary, name) for name in kept} | {"pruned": job.summary.pruned is not None}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, with the columns of all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def show(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> None:
    """Print the table, an interval in the cell of its value, and the notes."""
    names = dict.fromkeys(name for row in rows for name in row)
    inside = ("/low", "/high", "/n", *([] if any(row["pruned"] for row in rows) else ["pruned"]))
    shown = [name for name in names if not name.endswith(inside)]
    headings = []
    for name in shown:
        asked = next((row[f"{name}/n"] for row in rows if f"{name}/n" in row), None)
        headings.append(_HEADINGS.get(name, name) if asked is None else f"{name}\nn={asked:,}")
    print_table(None, headings, [[_cell(row, name) for name in shown] for row in rows], left=("job",))
    print(*notes, sep="\n")


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, bool):
        return "yes" if value else ""
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value or "-")
    low, high = row.get(f"{name}/low"), row.get(f"{name}/high")
    return text if low is None or high is None else f"{text}\u00a0[{low:.3g},\u00a0{high:.3g}]"


def log(sweep: Path, config: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Log table and picture to W&B, as a run in the group of the jobs, if they were logged there."""
    job = OmegaConf.load(config)
    if OmegaConf.select(job, "logger.wandb._target_") is None:
        return
    from musician.training.loggers.dashboard import log_picture, log_table
    from musician.training.loggers.wandb_run import WandbRun

    settings = {key: job.logger.wandb[key] for key in ("project", "name", "offline")}
    run = WandbRun(str(sweep.resolve()), sweep_dir=str(sweep.resolve()), job_type="summary", **settings)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    log_table([run], "sweep/jobs", columns, [[row.get(name) for name in columns] for row in rows])
    log_picture([run], "sweep/figures", sweep / "sweep.png", 0)
    run.experiment.finish()


if __name__ == "__main__":
    main()
