"""Train a language model: `python -m musician.train +experiment=sft hardware=8xv100`; `--help` lists groups."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from musician.cli.entry import command
from musician.cli.processes import in_sweep, is_child_rank, pin_ranks
from musician.cli.sweep_jobs import run_job, summed_up
from musician.training.runs.record import RunDirectory

if TYPE_CHECKING:
    from musician.cli.job import Job
    from musician.training.runs.summary import RunSummary


def main() -> None:
    """Run the command; a sweep is summed up when it ends."""
    with summed_up():
        train()


@command("train")
def train(cfg: DictConfig) -> float | None:
    """Build the job, train it, write down what came of it; return the metric that a sweep minimises."""
    if Path(cfg.model.name_or_path).is_dir():
        cfg.model.name_or_path = str(Path(cfg.model.name_or_path).resolve())  # a checkpoint remembers it
    if in_sweep():
        return run_job("musician.train", cfg)

    from musician.cli.job import build_job
    from musician.training.loggers.dashboard import log_adapter
    from musician.training.runs.failures import failures_in_one_line
    from musician.training.runs.summary import summarise

    first = not is_child_rank()
    claim: AbstractContextManager[RunDirectory | None]
    claim = RunDirectory(cfg.output_dir, resume=cfg.ckpt_path is not None) if first else nullcontext()
    with claim as run:
        job = build_job(cfg)
        if run is not None:
            record(run, job)
        pin_ranks("musician.train")
        if job.validate_at_start:
            validate_at_start(job)
        with failures_in_one_line(job.output_dir):
            job.trainer.fit(job.module, job.datamodule, ckpt_path=job.state, weights_only=False)
        summary = summarise(job.trainer, job.objective, job.parameters)
        if run is not None and not job.trainer.interrupted:
            log_adapter(job.loggers, run.path)
            if job.module.validation is not None and "val/loss" in summary.metrics:
                job.module.validation.write(run.path)
            summary.write(run.path)
    if first:
        report(summary)
    return summary.value


def record(run: RunDirectory, job: Job) -> None:
    """Write down how the run came about, and print it."""
    content = run.record(job.composition, **job.record, **job.facts)
    continued = [f"continues: {job.checkpoint}"] if job.checkpoint else []
    weights = "trainable weights: {:,} of {:,}".format(*job.parameters)
    print(*job.notes, f"run: {run.path}", *continued, weights, sep="\n", flush=True)
    for logger in job.loggers:
        logger.log_hyperparams(content)


def validate_at_start(job: Job) -> None:
    """Measure and log val/loss before the first step."""
    found = job.trainer.validate(job.module, job.datamodule, verbose=False)
    for logger in job.loggers:
        logger.log_metrics(dict(found[0]) if found else {}, step=0)


def report(summary: RunSummary) -> None:
    """Print how the run ended."""
    if summary.stopped:
        print(f"stopped early: {summary.stopped}")
    shown = {name: value for name, value in summary.metrics.items() if not name.startswith("eval/")}
    end = "pruned" if summary.pruned else "finished"
    print(f"{end} at step {summary.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))


if __name__ == "__main__":
    main()
