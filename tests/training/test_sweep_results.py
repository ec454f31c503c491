"""A sweep of toy files: the table, the tests, what has not finished."""

import csv
import json
import random
import statistics

import pytest
from commands import assert_ran, assert_refused, call

from musician.benchmarks.benchmark import write_lines
from musician.benchmarks.multiple_choice.records import Record
from musician.benchmarks.statistics.paired import holm
from musician.training.callbacks.validation import ValidationRows


def test_holm_as_worked_by_hand():
    """Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, the last raised to .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def write_job(folder, rank, right, finished=True, loss=None):
    """A job whose first `right` of 40 answers are right."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(f"- model=tiny\n- lora.r={rank}\n")
    (folder / ".hydra" / "config.yaml").write_text("logger: {csv: {_target_: csv}}\n")
    figures = {"trainable_parameters": rank * 10, "parameters": 999, "seconds_training": 1.5, "tokens_seen": 7}
    summary = {"step": 3, "objective": "val/loss", "metrics": {"val/loss": loss or 2.0 / rank}, "peak_memory_gib": 0.5}
    if finished:
        (folder / "summary.json").write_text(json.dumps(summary | figures))
    for step, correct in ((0, 0), (3, right)):
        records = [record(index, index < correct) for index in range(40)]
        write_lines(folder / "eval" / f"step-{step:06d}" / "toy" / "predictions.jsonl", records)


def record(index, correct):
    fields = {"num_fewshot": 0, "shots_kept": 0, "truncated": False, "bos": "", "method": "letter", "letter_mass": 0.7}
    asked = {"tie": False, "num_tokens": 4, "prompt_sha256": f"q{index}", "prompt_version": 1, "gold": "A"}
    answer = {"logprobs": (-1.0, -2.0, -2.0, -2.0), "prediction": "A" if correct else "B"}
    return Record(benchmark="toy", subject="s", index=index, **fields, **asked, **answer)


def summarize(tmp_path):
    return call("sweep", "directory=sweep", cwd=tmp_path)


def test_table_tests_and_unfinished_jobs(tmp_path):
    for rank, right in ((16, 30), (2, 10), (4, 12)):
        write_job(tmp_path / "sweep" / f"r{rank}", rank, right)
    write_job(tmp_path / "sweep" / "r64", 64, 40, finished=False)
    outcome = summarize(tmp_path)
    assert_ran(outcome)
    assert "unfinished: r64" in outcome.stdout
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [row["lora.r"] for row in found["jobs"]] == ["2", "4", "16"]
    assert [row["toy"] for row in found["jobs"]] == [0.25, 0.3, 0.75]
    tests = {(one["a"], one["b"]): one for one in found["tests"]}
    assert tests["r2", "r4"]["p_value"] == 0.5  # two questions, both one way: 2 * (1/2)^2
    assert tests["r2", "r16"]["adjusted"] == pytest.approx(3 * 2 * 0.5**20)
    assert tests["r4", "r16"]["adjusted"] == pytest.approx(2 * 2 * 0.5**18)
    assert [pair for pair, one in tests.items() if one["separable"]] == [("r2", "r16"), ("r4", "r16")]
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert (rows[0]["job"], rows[0]["val/loss"], rows[0]["trainable_parameters"]) == ("r2", "1.0", "20")
    assert (tmp_path / "sweep" / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_it_says_that_nothing_is_separable(tmp_path):
    for rank, right in ((2, 20), (4, 22)):
        write_job(tmp_path / "sweep" / f"r{rank}", rank, right)
    outcome = summarize(tmp_path)
    assert_ran(outcome)
    assert "nothing is separable from noise: 1 paired test, at 5 %" in outcome.stdout


def test_a_directory_without_jobs_is_refused(tmp_path):
    assert_refused(summarize(tmp_path), "directory=sweep has no job")


def test_losses_have_intervals_and_paired_tests(tmp_path):
    """r4 is better on each of 20 rows, r16 on half of them; r64 was validated on other rows."""
    chance = random.Random(0)
    base = [chance.uniform(10, 40) for _ in range(20)]
    rows = {2: base, 4: [nats - 0.5 for nats in base], 16: [nats + (-1) ** i for i, nats in enumerate(base)], 64: base}
    tokens = {rank: [10] * 20 if rank < 64 else [11] * 20 for rank in rows}
    for rank, nats in rows.items():
        write_job(tmp_path / "sweep" / f"r{rank}", rank, 20, loss=sum(nats) / 200)
        ValidationRows(nats, tokens[rank]).write(tmp_path / "sweep" / f"r{rank}")
    outcome = summarize(tmp_path)
    assert_ran(outcome)
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    mean, deviation = statistics.mean(base) / 10, statistics.stdev(base) / 10
    row = found["jobs"][0]
    assert row["val/loss/n"] == 20
    assert (row["val/loss/low"] + row["val/loss/high"]) / 2 == pytest.approx(row["val/loss"]) == pytest.approx(mean)
    assert row["val/loss/high"] - mean == pytest.approx(1.959964 * deviation / 20**0.5), "documents of one length"
    tests = {(one["a"], one["b"]): one for one in found["tests"] if one["benchmark"] == "val/loss"}
    assert tests.keys() == {("r2", "r4"), ("r2", "r16"), ("r4", "r16")}
    assert tests["r2", "r4"]["difference"] == pytest.approx(-0.05)
    assert tests["r2", "r4"]["p_value"] == 2 * 0.5**20
    assert tests["r2", "r16"]["p_value"] == 1.0
    assert [pair for pair, one in tests.items() if one["separable"]] == [("r2", "r4")]
    assert "val/loss: r4 against r2 -0.05, n=20, Holm p=1.7" in outcome.stdout
