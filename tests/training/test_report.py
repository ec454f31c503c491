"""The demo's report, from run directories made up here."""

import csv
import json

import pytest

from musician.training.loggers.csv_log import read_log, series
from musician.training.runs.report import Report, describe_tune

TUNE = "X:1\nM:4/4\nL:1/4\nK:G\nGABc|d2 z2|G3|"


def results(folder, step, nats, accuracy, memory):
    target = folder / "eval" / f"step-{step:06d}"
    target.mkdir(parents=True)
    content = {
        "step": step,
        "peak_memory_gib": memory,
        "eval/held_out_tunes/nats_per_token": nats,
        "eval/held_out_tunes/bits_per_note": 3 * nats,
        "eval/held_out_tunes/tokens": 600,
        "eval/held_out_tunes/seconds": 2.0,
        "eval/theory/all": accuracy,
        "eval/theory/all/ci95_low": accuracy - 0.125,
        "eval/theory/all/ci95_high": accuracy + 0.125,
        "eval/theory/all/n": 80,
    }
    (target / "results.json").write_text(json.dumps(content))


def log(folder, rows):
    (folder / "csv").mkdir(parents=True)
    fields = ["step", "train/loss", "train/tokens_per_second", "train/tokens_seen", "val/loss"]
    with (folder / "csv" / "metrics.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def report(tmp_path):
    pretrain, sft = tmp_path / "pretrain", tmp_path / "sft"
    results(pretrain, 0, 2.0, 0.25, 1.0)
    results(pretrain, 36, 1.5, 0.375, 2.0)
    results(sft, 0, 1.5, 0.375, 2.5)
    results(sft, 10, 1.6, 0.5, 3.0)
    # 100 tokens in one second and 300 in one more: 200 a second, not the mean of the speeds.
    speeds = [
        {"step": 0, "train/loss": 3.0, "train/tokens_per_second": 100, "train/tokens_seen": 100},
        {"step": 1, "train/loss": 2.0, "train/tokens_per_second": 300, "train/tokens_seen": 400},
    ]
    log(pretrain, [*speeds, {"step": 1, "val/loss": 1.75}])
    log(sft, [{"step": 0, "val/loss": 4.0}, *speeds, {"step": 1, "val/loss": 0.5}])
    return Report.of(pretrain, sft, prompt="Write.", tune=TUNE, constrained=TUNE, seconds=90.0)


def test_the_json_has_the_stages_in_order_with_their_figures(report, tmp_path):
    report.write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    stages = content["stages"]
    assert [stage["name"] for stage in stages] == ["before", "pretrain", "sft"]
    wanted = {
        "heldout_nats_per_token": [2.0, 1.5, 1.6],
        "heldout_bits_per_note": [6.0, 4.5, pytest.approx(4.8)],
        "accuracy": [0.25, 0.375, 0.5],
        "accuracy_ci95": [[0.125, 0.375], [0.25, 0.5], [0.375, 0.625]],
        "tokens_per_second": [300.0, 200.0, 200.0],
        "peak_memory_gib": [1.0, 2.0, 3.0],
        "sft_loss": [None, 4.0, 0.5],
        "questions": [80, 80, 80],
    }
    assert {key: [stage[key] for stage in stages] for key in wanted} == wanted
    assert content["heldout_fall"] == pytest.approx(0.25)
    assert (content["seconds"], content["prompt"], content["tune"]) == (90.0, "Write.", TUNE)


def test_the_picture_is_one_and_the_tune_is_written(report, tmp_path):
    report.write(tmp_path)
    picture = (tmp_path / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.rstrip().endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert width > height > 200
    assert (tmp_path / "tune.abc").read_text() == TUNE + "\n"


def test_the_table_shows_every_stage(report, tmp_path, capsys):
    report.show(tmp_path)
    shown = capsys.readouterr().out
    for text in ("before", "pretrain", "sft", "2.000", "0.375 [0.250, 0.500]", "25%", "1.5 minutes", TUNE):
        assert text in shown


def test_curves_are_read_from_both_logs(report, tmp_path):
    assert series(report.logs["pretrain"], "train/loss") == [(0, 3.0), (1, 2.0)]
    assert series(report.logs["sft"], "val/loss") == [(0, 4.0), (1, 0.5)]
    assert series(read_log(tmp_path / "sft"), "absent") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TUNE, "6 notes in 3 bars; 0 bars do not add up"),
        (TUNE.replace("z2", "z").replace("GABc", "GABcd"), "7 notes in 3 bars; 2 bars do not add up"),
        (TUNE.replace("GABc", "Bc"), "4 notes in 3 bars; 0 bars do not add up"),  # a pick-up
        ("no music at all", "no tune was recognised in the answer"),
        ("", "no tune was recognised in the answer"),
    ],
)
def test_what_a_generated_text_holds(text, said):
    assert describe_tune(text) == said


def test_a_run_without_evaluations_says_so(tmp_path):
    log(tmp_path, [])
    with pytest.raises(FileNotFoundError, match="holds no"):
        Report.of(tmp_path, tmp_path, prompt="", tune="", constrained="", seconds=0)
