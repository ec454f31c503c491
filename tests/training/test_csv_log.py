"""The log of a run that was stopped and continued in its directory is that of a run that was not."""

import csv

import pytest
import torch
from commands import assert_ran, call

from musician.training.loggers.csv_log import CSVLog


def lines(folder):
    """Steps with what was logged of them."""
    with (folder / "csv" / "metrics.csv").open(newline="") as stream:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(stream)]


def log(folder, *entries):
    """One part of a run."""
    logger = CSVLog(folder, name="csv", version="")
    logger.log_hyperparams({"name": "toy"})
    for step, metrics in entries:
        logger.log_metrics({name: torch.tensor(value) for name, value in metrics.items()}, step)
    logger.finalize("success")


def test_the_lines_before_the_stop_stay(tmp_path):
    log(tmp_path, (0, {"train/loss": 3.0}), (1, {"train/loss": 2.0}))
    log(tmp_path, (2, {"train/loss": 1.5}), (2, {"val/loss": 1.25}))
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 2]
    assert [line.get("train/loss") for line in lines(tmp_path)] == [3.0, 2.0, 1.5, None]
    assert lines(tmp_path)[3]["val/loss"] == 1.25


def test_steps_that_are_taken_again_stand_there_once(tmp_path):
    log(tmp_path, *((step, {"train/loss": 3.0 - step}) for step in range(3)))
    log(tmp_path, (1, {"train/loss": 7.0}), (2, {"train/loss": 8.0}))
    assert lines(tmp_path) == [{"step": step, "train/loss": loss} for step, loss in ((0, 3.0), (1, 7.0), (2, 8.0))]


def test_an_evaluation_that_is_made_again_leaves_its_steps_training_loss(tmp_path):
    log(tmp_path, (2, {"train/loss": 1.0}), (2, {"val/loss": 0.5}), (3, {"eval/theory": 0.25}))
    log(tmp_path, (2, {"val/loss": 0.75}), (3, {"eval/theory": 0.125}))
    wanted = [{"step": 2, "train/loss": 1.0}, {"step": 2, "val/loss": 0.75}, {"step": 3, "eval/theory": 0.125}]
    assert lines(tmp_path) == wanted


def test_a_log_of_hyperparameters_alone_keeps_everything(tmp_path):
    log(tmp_path, (0, {"train/loss": 3.0}))
    before = (tmp_path / "csv" / "metrics.csv").read_bytes()
    log(tmp_path)
    assert (tmp_path / "csv" / "metrics.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [("trainer.max_steps=5", "callbacks.checkpoints.every_n_steps=5"), ("trainer.max_epochs=1",)],
    ids=["inside an epoch", "after one"],
)
def test_a_continued_run_has_the_lines_of_an_undisturbed_one(tmp_path, stop):
    job = ("+experiment=smoke", "benchmark=[]", "logger=[csv]", "data.limit_train_rows=6", "trainer.max_epochs=2")
    continued = ("ckpt_path=auto", "allow_changed_config=true")
    assert_ran(call("train", *job, "hydra.run.dir=whole", cwd=tmp_path))
    assert_ran(call("train", *job, *stop, "hydra.run.dir=parts", cwd=tmp_path))
    assert_ran(call("train", *job, *continued, "hydra.run.dir=parts", cwd=tmp_path))
    whole, parts = (
        [(line["step"], line["train/tokens_seen"]) for line in lines(tmp_path / run) if "train/loss" in line]
        for run in ("whole", "parts")
    )
    assert whole == parts
    assert [step for step, _ in whole] == list(range(6))
