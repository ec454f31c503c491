"""Sweeps through the command line: each job in processes of its own, once, and again only as far as it had not come."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from doors import ROOT, _clean_environment, assert_ran, spawn, tunes, write_jsonl
from safetensors.torch import load_file

from musician.sweep import differences

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
                "data=jsonl",
                f"data.source.path={source}",
                f"data.root={folder / 'data'}",
            ),
            *("data.validation_fraction=0.5", "data.max_length=128", "benchmark=[]", "logger=[csv]"),
            *("lora.modules_to_save=null", "global_batch_size=4", "name=tiny"),
        ]

    def sweep(self, name, *overrides):
        """The arguments of a sweep whose directory is `name`."""
        return ["-m", *self.common, f"hydra.sweep.dir={self.folder / name}", *overrides]

    def run(self, *arguments):
        """Run the door to its end."""
        return spawn("train", *arguments, cwd=ROOT)

    def start(self, *arguments):
        """Start it in a process group of its own."""
        command = [sys.executable, "-m", "musician.train", *map(str, arguments)]
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


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("a.c", 2, 3)]),
        ({"a": {"b": 1}}, {"a": None}, [("a", {"b": 1}, None)]),
        ({"a": 1}, {"b": 2}, [("a", 1, None), ("b", None, 2)]),
    ],
)
def test_differences_name_the_keys(before, now, found):
    assert list(differences(before, now)) == found
