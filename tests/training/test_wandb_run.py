"""W&B offline: what a run is called, which group it is in, and that a continued run is the same one."""

import csv
import json
import os
import subprocess

import pytest
from commands import ROOT
from forked_python import forked_python

from musician.music.sound.render import wave_file
from musician.runtime.errors import UserError
from musician.training.loggers.dashboard import log_adapter, log_table
from musician.training.loggers.wandb_layout import panels
from musician.training.loggers.wandb_run import FILE, WandbRun


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


def test_a_table_shows_pictures_and_plays_sounds(tmp_path, monkeypatch):
    from matplotlib import image
    from numpy import zeros

    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    image.imsave(tmp_path / "000.png", zeros((4, 4)))
    (tmp_path / "000.wav").write_bytes(wave_file(zeros(100)))
    run = WandbRun(str(tmp_path), name="sft")
    log_table([run], "eval/generation/tunes", ["score", "sound"], [[tmp_path / "000.png", tmp_path / "000.wav"]])
    kept = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    table, *_ = [json.loads(content) for content in kept if content.startswith(b'{"_type": "table"')]
    assert [[cell["_type"] for cell in row] for row in table["data"]] == [["image-file", "audio-file"]]
    assert (tmp_path / "000.wav").read_bytes() in kept


def forget_key(monkeypatch, tmp_path):
    """No key in the environment or in a file, and none that W&B remembers."""
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_nobody_is_asked_for_a_key(tmp_path, monkeypatch, capsys):
    forget_key(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"logger.wandb.offline=false needs a key: run `wandb login`"):
        WandbRun(str(tmp_path), offline=False)
    assert capsys.readouterr().out == ""


def test_a_key_lets_a_run_be_online(tmp_path, monkeypatch):
    forget_key(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    WandbRun(str(tmp_path), offline=False)  # connects when it first logs


@pytest.mark.parametrize("asked", [False, True])
def test_an_adapter_is_an_artifact_that_tells_what_it_was_made_from(tmp_path, asked):
    """Read from what `wandb sync` would send, which holds names and metadata as they are."""
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step-000004"
    (checkpoint / "adapter").mkdir(parents=True)
    (checkpoint / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    facts = {"base_model": "a-base", "data_key": "0123abcd", "step": 4, "canaries": [1, 2, 3]}
    (checkpoint / "checkpoint.json").write_text(json.dumps(facts))
    (run / "checkpoints" / "best").symlink_to("step-000004")
    import wandb

    logger = WandbRun(str(run), log_adapter=asked)
    log_adapter([logger], run)
    logger.experiment.finish()
    wandb.teardown()  # as the end of a process: the file is whole only then
    sent = b"".join(file.read_bytes() for file in run.glob("wandb/offline-run-*/*.wandb"))
    for written in (
        b"adapter_model.safetensors",
        b'"base_model":"a-base"',
        b'"data_key":"0123abcd"',
        f"adapter-{logger.experiment.id}".encode(),
    ):
        assert (written in sent) is asked, written
    assert b"canaries" not in sent


def test_a_run_without_a_checkpoint_has_no_adapter_to_log(tmp_path):
    logger = WandbRun(str(tmp_path), log_adapter=True)
    log_adapter([logger], tmp_path)
    assert list(tmp_path.iterdir()) == [], "a run of W&B was begun for nothing"


def layout_metrics(view):
    """Titles of the sections, and the metrics of all panels."""
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    panels = [panel["config"] for section in sections for panel in section["panels"]]
    found = {metric for panel in panels for key in ("metrics", "mediaKeys") for metric in panel.get(key) or ()}
    return [section["name"] for section in sections], found, {panel.get("xAxis") for panel in panels} - {None}


def view_of(*figures):
    """The view as W&B stores it."""
    return panels("me", "musician", figures)._to_model().model_dump(by_alias=True)


def test_a_view_is_saved_online_only(tmp_path):
    with pytest.raises(UserError, match=r"workspace.*add logger.wandb.offline=false"):
        WandbRun(str(tmp_path), workspace=["theory/all"])


def test_the_layout_shows_each_thing_once_with_intervals():
    view = view_of("theory/all")
    assert (view["entity"], view["project"], view["displayName"]) == ("me", "musician", "musician")
    titles, metrics, axes = layout_metrics(view)
    assert titles[:3] == ["Loss", "Benchmarks, 95 % intervals", "Samples"]
    assert {"eval/theory/all", "eval/theory/all/ci95_low", "eval/theory/all/ci95_high"} <= metrics
    assert axes == {"trainer/global_step"}


@pytest.mark.slow
def test_a_run_with_stdin_closed_logs_everything_that_the_layout_shows(tmp_path):
    """Offline by itself; the samples are a table."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [
        *("+experiment=smoke", "data.limit_train_rows=4", f"hydra.run.dir={tmp_path / 'run'}"),
        "callbacks=[step_metrics,preemption,evaluations,checkpoints,progress,samples]",
        "callbacks.samples.sampling.max_new_tokens=8",
    ]
    command = [forked_python(), "-m", "musician.train", *words]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, cwd=ROOT, env=environment, **options)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"][:12]) for row in rows] == [
        (step, prompt) for step in (0, 2) for prompt in ("Write a jig ", "Write a shor")
    ]
    tables = sorted((tmp_path / "run").glob("wandb/offline-run-*/files/media/table/samples*.json"))
    assert {len(json.loads(table.read_text())["data"]) for table in tables} == {2, 4}
    with (tmp_path / "run" / "csv" / "metrics.csv").open() as stream:
        logged = set(next(csv.reader(stream)))
    _, shown, _ = layout_metrics(view_of("theory/all", "held_out_tunes/nats_per_token"))
    assert shown - logged == {"eval/accuracy", "sweep/figures"}, "pictures are no numbers; all else is logged"
