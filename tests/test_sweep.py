"""Sweeps through the command line: each job in processes of its own, once, and again only as far as it had not come."""

import json
import os
import re
import signal
import statistics
import subprocess
import time

import pytest
import torch
from commands import ROOT, _clean_environment, assert_ran, spawn, tunes, write_jsonl
from forked_python import forked_python
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

RANKS = (2, 4)


class Sweeps:
    """Runs jobs of a second on a random tiny model; data is prepared once."""

    def __init__(self, folder):
        self.folder = folder
        source = write_jsonl(folder / "tunes.jsonl", tunes(24))
        self.common = [
            *(
                "model=tiny",
                "module=pretrain",
                "data=files",
                f"data.path={source}",
                f"data.root={folder / 'data'}",
            ),
            *("data.validation_fraction=0.5", "data.max_length=128", "benchmark=[]", "logger=[csv]"),
            *("lora.modules_to_save=null", "global_batch_size=4", "name=tiny"),
        ]

    def sweep(self, name, *overrides):
        """The arguments of a sweep whose directory is `name`."""
        return ["-m", *self.common, f"hydra.sweep.dir={self.folder / name}", *overrides]

    def run(self, *arguments, fresh=False):
        """Run the command to its end; launchers that start Python in their own way need a fresh interpreter."""
        return spawn("train", *arguments, cwd=ROOT, timeout=850, fresh=fresh)

    def start(self, *arguments):
        """Start it in a process group of its own."""
        command = [forked_python(), "-m", "musician.train", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=ROOT, env=_clean_environment(), start_new_session=True, stdout=subprocess.DEVNULL
        )


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    return Sweeps(tmp_path_factory.mktemp("sweeps"))


def steps(run):
    """Optimiser steps in the order they were logged."""
    rows = (run / "csv" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/loss")
    return sum(bool(row.split(",")[column]) for row in rows[1:])


def adapter(run):
    return load_file(run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")


def summary(run):
    return json.loads((run / "summary.json").read_text())


def files_of(run):
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.suffix != ".log"}


TWO_PROCESSES = ("hardware=cpu_2proc", "lora.r=2,4", "trainer.max_epochs=4", "lora.lora_dropout=0")


@pytest.fixture(scope="module")
def killed(sweeps):
    """A sweep of two-process jobs, killed in its second job; then run again. What was there between, and the output."""
    arguments = sweeps.sweep("killed", *TWO_PROCESSES)
    process = sweeps.start(*arguments)
    second = sweeps.folder / "killed" / "1"
    deadline = time.monotonic() + 300
    while not (second / "checkpoints" / "last").exists():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (second / "summary.json").exists(), "it had finished"
    before = files_of(sweeps.folder / "killed" / "0")
    return before, sweeps.run(*arguments)


def test_each_job_of_two_processes_runs_once_and_ends(sweeps, killed):
    _, outcome = killed
    assert_ran(outcome)
    folder = sweeps.folder / "killed"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1"]
    for job, rank in enumerate(RANKS):
        record = json.loads((folder / str(job) / "run.json").read_text())
        assert record["config"]["lora"]["r"] == rank
        assert record["config"]["hardware"]["devices"] == 2
        assert (folder / str(job) / "train_rank1.log").is_file()
        assert summary(folder / str(job))["step"] == steps(folder / "0")


def test_a_finished_job_is_not_run_again_and_its_objective_is_told(sweeps, killed):
    before, outcome = killed
    assert before == files_of(sweeps.folder / "killed" / "0")
    assert len(re.findall(r"^run: ", outcome.stdout, re.MULTILINE)) == 1
    value = summary(sweeps.folder / "killed" / "0")["metrics"]["val/loss"]
    assert f"(val/loss {value})" in outcome.stdout


def test_the_job_that_was_killed_ends_like_one_that_was_left_alone(sweeps, killed):
    overrides = [word.replace("r=2,4", "r=4") for word in TWO_PROCESSES]
    alone = sweeps.folder / "alone"
    assert_ran(sweeps.run(*sweeps.common, *overrides, f"hydra.run.dir={alone}"))
    mine, others = adapter(sweeps.folder / "killed" / "1"), adapter(alone)
    assert mine.keys() == others.keys()
    for name, weight in mine.items():
        assert torch.equal(weight, others[name]), name
    one, other = summary(sweeps.folder / "killed" / "1"), summary(alone)
    assert one["metrics"]["val/loss"] == other["metrics"]["val/loss"]
    assert (one["step"], one["tokens_seen"]) == (other["step"], other["tokens_seen"])


def test_a_sweep_is_summed_up_when_it_ends(sweeps, killed):
    _, outcome = killed
    folder = sweeps.folder / "killed"
    found = json.loads((folder / "sweep.json").read_text())
    assert [(row["job"], row["lora.r"], row["pruned"]) for row in found["jobs"]] == [
        ("0", "2", False),
        ("1", "4", False),
    ]
    assert [row["val/loss"] for row in found["jobs"]] == [summary(folder / job)["metrics"]["val/loss"] for job in "01"]
    assert found["unfinished"] == []
    assert f"written: {folder}/sweep.{{json,csv,png}}" in outcome.stdout
    assert (folder / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_a_changed_grid_does_not_pass_for_the_old_one(sweeps, killed):
    changed = [word.replace("2,4", "2,8") for word in TWO_PROCESSES]
    outcome = sweeps.run(*sweeps.sweep("killed", *changed))
    assert outcome.code == 1
    assert "lora.r: 4 -> 8" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr


def test_a_job_that_fails_does_not_stop_the_others(sweeps):
    arguments = sweeps.sweep("failing", "trainer.max_steps=1", "lora.target_modules=[nothing],[q_proj]")
    outcome = sweeps.run(*arguments)
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: sweep: job 0 ")
    assert "no module ['nothing']" in outcome.stderr
    assert not (sweeps.folder / "failing" / "0" / "summary.json").exists()
    assert summary(sweeps.folder / "failing" / "1")["step"] == 1
    found = json.loads((sweeps.folder / "failing" / "sweep.json").read_text())
    assert [row["job"] for row in found["jobs"]] == ["1"], "the others are summed up as well"


def test_joblib_runs_jobs_of_two_processes_side_by_side(sweeps):
    outcome = sweeps.run(
        *sweeps.sweep("joblib", "lora.r=2,4", "hardware=cpu_2proc", "trainer.max_steps=2"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        fresh=True,
    )
    assert_ran(outcome)
    found = json.loads((sweeps.folder / "joblib" / "sweep.json").read_text())
    assert [(row["lora.r"], row["step"]) for row in found["jobs"]] == [("2", 2), ("4", 2)]
    assert (sweeps.folder / "joblib" / "1" / "train_rank1.log").is_file()


def test_optuna_and_submitit_finish_and_a_hopeless_trial_is_pruned(sweeps):
    """The seed proposes a learning rate that trains, then one that does not; what is pruned follows from the files."""
    arguments = [
        *sweeps.sweep("optuna", "optimizer.lr=choice(1e-9,2e-2)", "trainer.max_epochs=2", "lora.r=2"),
        *("callbacks=[step_metrics,evaluations,checkpoints,pruning]", "callbacks.pruning.startup_jobs=1"),
        *("hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0"),
        *("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=3"),
    ]
    outcome = sweeps.run(*arguments, "hydra/launcher=submitit_local", fresh=True)
    assert_ran(outcome)
    folder = sweeps.folder / "optuna"
    curves = {job: list(json.loads((folder / job / "objective.json").read_text())["values"].values()) for job in "012"}
    finished, pruned = [], []
    for job, curve in curves.items():
        stopped = any(
            min(curve[: step + 1]) > statistics.median(other[step] for other in finished)
            for step in range(len(curve))
            if finished
        )
        (pruned if stopped else finished).append(curve)
        assert (summary(folder / job)["pruned"] is not None) is stopped
        assert len(curve) == (1 if stopped else 2)
    assert pruned
    assert finished
    found = json.loads((folder / "sweep.json").read_text())
    assert sorted(row["job"] for row in found["jobs"] if row["pruned"]) == [
        job for job in "012" if curves[job] in pruned
    ]
    assert "worse than" in outcome.stdout, "the summary says why"
    best = min(curve[-1] for curve in curves.values())
    text = (folder / "optimization_results.yaml").read_text()
    assert f"best_value: {best}" in text
    before = {job: files_of(folder / job) for job in "012"}
    assert_ran(sweeps.run(*arguments, fresh=True))
    assert before == {job: files_of(folder / job) for job in "012"}, (
        "the same trials again, from their files, by any launcher"
    )
    assert (folder / "optimization_results.yaml").read_text() == text
