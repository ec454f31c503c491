"""A sweep: each job a process of its own, continued where it was stopped, run once; all summed up at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from musician.cli.arguments import quote
from musician.cli.processes import job_command
from musician.runtime.errors import REQUEUE, UserError
from musician.training.runs.changes import differences, in_short
from musician.training.runs.summary import read_summary
from musician.training.slurm import without_tasks

#: What may differ when a sweep continues: the machine, and where things go.
_FREE = ("hardware", "callbacks", "logger", "ckpt_path", "output_dir", "sweep_dir", "cache_dir")

#: Directory of the sweep that this process runs, if it runs one.
_running: list[Path] = []


def run_job(module: str, cfg: DictConfig) -> float | None:
    """Run the current job of a sweep and return its objective.

    The job gets a process of its own: process groups, engines, memory and variables of one job never reach the next,
    whatever launcher runs the sweep. A job that has finished is not run again; one that began continues from its last
    checkpoint.

    Args:
        module: the command, `musician.train`.
        cfg: the job's config.

    Raises:
        UserError: the job failed, or its directory has a run of another config.
        SystemExit: a signal stopped the job; the sweep stops with it.
    """
    directory = Path(HydraConfig.get().runtime.output_dir)
    check_same_job(directory, cfg)
    summary = read_summary(directory)
    if summary is not None:
        print(f"finished before: {directory} ({summary.objective} {summary.value})", flush=True)
        return summary.value
    command = job_command(module, f"sweep_dir={quote(str(sweep_directory()))}", *_continuation(directory))
    code, received = run_until_it_ends(command, HydraConfig.get().runtime.cwd)
    if received is not None or code == REQUEUE:
        raise SystemExit(code if code >= 0 else 128 - code)
    summary = read_summary(directory)
    if code != 0 or summary is None:
        job = HydraConfig.get()
        raise UserError(
            f"sweep: job {job.job.num} ({job.job.override_dirname}) ended with status {code}, its error is above; the "
            f"same command with hydra.sweep.dir={sweep_directory()} runs what has not finished"
        )
    return summary.value


class RememberSweep(Callback):
    """Remember the directory of a sweep, which Hydra knows once it has begun but not after a failure."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note it."""
        _running.append(Path(config.hydra.sweep.dir).resolve())


@contextmanager
def summed_up() -> Iterator[None]:
    """Sum up the sweep that the body runs, if it is one: also when a job has failed, not after a signal."""
    _running.clear()
    try:
        yield
    except SystemExit as end:
        if end.code != 1:
            raise
        sum_up()
        raise
    sum_up()


def sum_up() -> None:
    """Summarise the sweep of this process, if a job of it has finished."""
    for directory in _running:
        if any(directory.glob("*/summary.json")):
            command = [sys.executable, "-m", "musician.sweep", f"directory={quote(str(directory))}"]
            subprocess.run(command, check=False)  # it prints its own errors


def sweep_directory() -> Path:
    """The directory of the current sweep."""
    job = HydraConfig.get()
    return (Path(job.runtime.cwd) / job.sweep.dir).resolve()


def check_same_job(directory: Path, cfg: DictConfig) -> None:
    """Refuse to take the run in a directory for another job, one of a changed grid for instance.

    Raises:
        UserError: naming what differs.
    """
    file = directory / ".hydra" / "config.yaml"
    if not file.is_file():
        return
    before, now = (OmegaConf.to_container(config, resolve=False) for config in (OmegaConf.load(file), cfg))
    changes = list(differences(before, now, free=_FREE))
    if changes:
        raise UserError(
            f"sweep: {directory} holds a run of another config ({in_short(changes)}); choose another hydra.sweep.dir"
        )


def _continuation(directory: Path) -> list[str]:
    """What makes a job go on that has begun; one that left no checkpoint begins again."""
    if (directory / "checkpoints" / "last").exists():
        return [f"ckpt_path={quote(str(directory))}"]
    if (directory / "run.json").exists():
        print(f"begins again, it left no checkpoint: {directory}", flush=True)
        (directory / "run.json").unlink()
    return []


def run_until_it_ends(command: list[str], cwd: str) -> tuple[int, int | None]:
    """Run a command, pass on the signals that ask to stop, and wait for as long as it takes to obey.

    Returns:
        its exit status, and the signal that was passed on, if there was one.
    """
    process = subprocess.Popen(command, cwd=cwd, env=without_tasks())
    with _passing_on(process) as received:
        code = process.wait()
    return code, received[0] if received else None


@contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    received: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield received
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
