"""The median rule, against Optuna's; and a job of a sweep that it ends."""

import json
from types import SimpleNamespace

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from musician.runtime.errors import UserError
from musician.training.callbacks.evaluation import Evaluations
from musician.training.callbacks.pruning import FILE, MedianPruning, median_at
from musician.training.runs.summary import summarise

from .test_evaluation import Quiz
from .toys import data, fit, write_tunes

optuna.logging.set_verbosity(optuna.logging.ERROR)

#: Losses at steps 1, 2 and 3.
CURVE = st.lists(st.integers(0, 9).map(float), min_size=3, max_size=3)


def leave_job(sweep, name, curve, finished=True, metric="val/loss"):
    """Leave what a job leaves that the others look at."""
    folder = sweep / name
    folder.mkdir(parents=True, exist_ok=True)
    content = {"metric": metric, "values": dict(enumerate(curve, 1)), "finished": finished}
    (folder / FILE).write_text(json.dumps(content))


def trainer_at(step, loss):
    strategy = SimpleNamespace(broadcast=lambda item: item)
    return SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        callback_metrics={"val/loss": torch.tensor(loss)},
        **{"global_step": step, "is_global_zero": True, "strategy": strategy, "should_stop": False},
    )


def pruned_at(callback, curve):
    """The first step at which a job with these losses is stopped; None for none."""
    for step, loss in enumerate(curve, 1):
        trainer = trainer_at(step, loss)
        callback.on_validation_end(trainer, None)
        if trainer.should_stop:
            return step
    return None


def pruned_by_optuna(mine, others, mode, startup, warmup):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
    study = optuna.create_study(direction={"min": "minimize", "max": "maximize"}[mode], pruner=pruner)
    for curve, pruned in others:
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        values = dict(enumerate(curve, 1))
        study.add_trial(create_trial(state=state, value=curve[-1], intermediate_values=values))
    trial = study.ask()
    for step, value in enumerate(mine, 1):
        trial.report(value, step)
        if trial.should_prune():
            return step
    return None


@settings(max_examples=60, deadline=None)
@given(
    mine=CURVE,
    others=st.lists(st.tuples(CURVE, st.booleans()), max_size=5),
    mode=st.sampled_from(["min", "max"]),
    startup=st.integers(1, 4),
    warmup=st.integers(0, 3),
)
def test_it_decides_as_optunas_median_pruner(tmp_path_factory, mine, others, mode, startup, warmup):
    sweep = tmp_path_factory.mktemp("sweep")
    for index, (curve, pruned) in enumerate(others):
        leave_job(sweep, str(index), curve, not pruned)
    (sweep / "me").mkdir()
    callback = MedianPruning(sweep / "me", sweep, "val/loss", mode, startup, warmup)
    assert pruned_at(callback, mine) == pruned_by_optuna(mine, others, mode, startup, warmup)


def test_a_job_with_other_steps_counts_with_what_it_had_reached():
    assert median_at(5, [{2: 1.0, 4: 3.0, 6: 9.0}, {5: 4.0}, {7: 0.0}]) == 3.5
    assert median_at(1, [{2: 1.0}]) is None


def test_jobs_of_another_metric_and_unfinished_ones_are_not_compared_with(tmp_path):
    leave_job(tmp_path, "other", [0.0] * 3, metric="eval/quiz/all")
    leave_job(tmp_path, "running", [0.0] * 3, finished=False)
    (tmp_path / "me").mkdir()
    assert pruned_at(MedianPruning(tmp_path / "me", tmp_path, startup_jobs=1), [5.0] * 3) is None
    leave_job(tmp_path, "running", [0.0] * 3)
    assert pruned_at(MedianPruning(tmp_path / "me", tmp_path, startup_jobs=1), [5.0] * 3) == 1


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    return write_tunes(tmp_path_factory.mktemp("tunes"))


def job(tunes, folder, *more, **options):
    """A job of three epochs and twelve steps, the last callback a pruning one."""
    folder.mkdir(parents=True)
    pruning = MedianPruning(folder, folder.parent, startup_jobs=1, **options)
    run = fit(tunes, folder / "checkpoints", callbacks=[*more, pruning], epochs=3)
    summary = summarise(run.trainer, pruning.monitor, (1, 1))
    return run, summary


def test_a_job_that_is_worse_ends_at_its_first_validation_and_says_why(tunes, tmp_path, capsys):
    whole, summary = job(tunes, tmp_path / "whole")
    assert summary.pruned is None
    assert summary.step == whole.trainer.global_step == 12
    content = json.loads((tmp_path / "whole" / FILE).read_text())
    losses = content["values"]
    assert content["finished"]
    assert list(losses) == ["4", "8", "12"]
    assert losses["12"] == pytest.approx(summary.metrics["val/loss"])
    leave_job(tmp_path, "whole", [0.0] * 3)
    quiz = Evaluations({"quiz": Quiz()}, data(tunes).renderer, tmp_path / "worse" / "eval", at_start=False)
    _, summary = job(tunes, tmp_path / "worse", quiz)
    assert summary.step == 4
    assert summary.value == pytest.approx(losses["4"])
    assert "is worse than 0, the median of the finished jobs (1)" in summary.pruned
    assert f"pruned: {summary.pruned}" in capsys.readouterr().err
    assert quiz.history == {}, "benchmarks ran for a job that had been given up"
    assert (tmp_path / "worse" / "checkpoints" / "last").resolve().name == "step-000004"
    assert not json.loads((tmp_path / "worse" / FILE).read_text())["finished"], "others must not compare with it"


def test_a_benchmark_can_be_what_is_compared(tunes, tmp_path):
    leave_job(tmp_path, "good", [2.0] * 12, metric="eval/quiz/all")
    quiz = Evaluations({"quiz": Quiz()}, data(tunes).renderer, tmp_path / "eval", at_start=False, every_n_steps=2)
    _, summary = job(tunes, tmp_path / "bad", quiz, monitor="eval/quiz/all", mode="max")
    assert summary.step == 2
    assert summary.pruned is not None


def test_a_metric_that_nothing_measures_is_refused(tunes, tmp_path):
    with pytest.raises(UserError, match=r"has not measured 'val/los'.*'val/loss'"):
        job(tunes, tmp_path / "job", monitor="val/los")


def test_a_mode_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="must be min or max"):
        MedianPruning(tmp_path, mode="least")
