"""The demo says which of its stages failed, and how to run that one alone."""

import shlex

import pytest
from commands import call, spawn

import musician.demo as module


@pytest.mark.slow
@pytest.mark.parametrize(
    "budget",
    ["budget.pretrain=['optimizer.lrr=1']", "budget.pretrain=['hardware=8xv10']"],
)
def test_a_stage_that_fails_ends_the_demo_in_one_line_with_its_command(tmp_path, budget):
    outcome = spawn("demo", "budget=ci", budget, "hydra.run.dir=demo", cwd=tmp_path)
    own, last = outcome.stderr.splitlines()
    assert outcome.code == 1
    assert own.startswith("error: ")
    assert last.startswith("error: the demo stopped at '1/5")
    advice = shlex.split(last.split("run it alone: ", 1)[1])
    assert advice[:4] == ["python", "-m", "musician.train", "+experiment=demo_pretrain"]
    assert f"hydra.run.dir='{tmp_path / 'demo' / 'pretrain'}'" in advice
    assert [path for path in (tmp_path / "demo").rglob("*") if path.is_file()] == []
    again = call("train", *advice[3:], cwd=tmp_path)
    assert (again.code, again.stderr.strip()) == (1, own)


def test_the_stages_run_in_order_and_each_starts_from_the_one_before(tmp_path, monkeypatch):
    calls = []

    class Done:
        returncode = 0

    def record(command, check):
        calls.append(command[2:])
        return Done()

    class Report:
        def __init__(self, *places):
            self.places = places

        @classmethod
        def of(cls, *places, **facts):
            calls.append(["report", *places])
            return cls(*places)

        def write(self, directory):
            calls.append(["write", directory])

        def show(self, directory):
            calls.append(["show", directory])

    monkeypatch.setattr(module.subprocess, "run", record)

    def ask(model, _, tokens, constraints):
        calls.append(["ask", model, tokens, constraints])
        return "X:1", "X:2"

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr("musician.training.runs.report.Report", Report)
    outcome = call("demo", "budget=ci", "hydra.run.dir=demo", cwd=tmp_path)
    demo = tmp_path / "demo"
    assert outcome.code == 0, outcome.stderr
    assert [words[0] for words in calls] == [
        *("musician.train", "musician.merge", "musician.train", "musician.merge"),
        *("ask", "report", "write", "show"),
    ]
    pretrain, merge, sft, merge_sft, ask, report, *_ = calls
    assert pretrain[1:3] == ["+experiment=demo_pretrain", f"hydra.run.dir='{demo / 'pretrain'}'"]
    assert merge[1:] == [f"model={demo / 'pretrain'}"]
    assert sft[1:4] == [
        "+experiment=demo_sft",
        f"hydra.run.dir='{demo / 'sft'}'",
        f"model.name_or_path='{demo / 'pretrain' / 'merged'}'",
    ]
    assert merge_sft[1:] == [f"model={demo / 'sft'}"]
    assert ask[1:] == [demo / "sft" / "merged", 120, {"key": "D", "meter": "6/8", "unit": "1/8", "bars": 2}]
    assert report[1:] == [demo / "pretrain", demo / "sft"]
    assert "data.limit_train_rows=3" in pretrain
    assert "data.limit_train_rows=3" in sft
