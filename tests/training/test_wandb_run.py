"""W&B offline: what a run is called, which group it is in, and that a continued run is the same one."""

import pytest

from musician.errors import UserError
from musician.training.wandb_run import FILE, WandbRun


@pytest.fixture(autouse=True)
def _no_run_is_left(monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.finish()


def begin(*arguments, **options):
    """Start a run, note what it is, end it."""
    import wandb

    run = WandbRun(*arguments, **options).experiment
    found = run.id, run.group or None, run.name, run.job_type
    wandb.finish()
    return found


def test_a_run_that_continues_keeps_its_id(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    found = begin(str(first), name="sft")
    assert found[1:] == (None, "sft", "train")
    assert (first / FILE).read_text() == found[0] + "\n"
    assert begin(str(first), name="sft", continues=str(first))[0] == found[0]
    assert begin(str(second), name="sft", continues=str(first / "checkpoints" / "last"))[0] == found[0]
    assert begin(str(third), name="sft")[0] != found[0]
    assert len(list(first.glob(f"wandb/offline-run-*-{found[0]}/run-{found[0]}.wandb"))) >= 1


def test_the_jobs_of_a_sweep_are_runs_of_one_group(tmp_path):
    jobs = [tmp_path / "sweep_1" / name for name in ("r8", "r16")]
    found = []
    for job in jobs:
        job.mkdir(parents=True)
        found.append(begin(str(job), name="sft", sweep_dir=str(job.parent)))
    assert [run[1:] for run in found] == [("sweep_1", "sft r8", "sweep"), ("sweep_1", "sft r16", "sweep")]
    assert found[0][0] != found[1][0]


def test_nobody_is_asked_for_a_key(tmp_path, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(type(wandb.api), "api_key", property(lambda _: None), raising=False)
    with pytest.raises(UserError, match="wandb login"):
        WandbRun(str(tmp_path), offline=False)
