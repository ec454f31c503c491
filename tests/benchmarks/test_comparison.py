"""Comparing two runs: pairing, refusals, and whether the statistics keep what they promise."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest

from musician import compare as module
from musician.benchmarks.benchmark import write_lines
from musician.benchmarks.multiple_choice.records import Record, prediction_files, read_run
from musician.benchmarks.multiple_choice.result import subset_accuracies
from musician.benchmarks.statistics.comparison import compare, compare_runs, subsets_of
from musician.benchmarks.statistics.paired import Pair, difference
from musician.runtime.errors import UserError

SOME = ("anatomy", "virology", "world_religions")


def record(index, correct=True, subject="knowledge", benchmark="mtb", **changes):
    """A record as an evaluation would write it."""
    fields = {
        **{"num_fewshot": 0, "shots_kept": 0, "truncated": False, "bos": "<s>", "method": "letter"},
        **{"logprobs": (-1.0, -2.0, -2.0, -2.0), "letter_mass": 0.7, "prediction": "A" if correct else "B"},
        **{"gold": "A", "tie": False, "num_tokens": 40, "prompt_sha256": f"{subject}{index}", "prompt_version": 1},
    }
    return Record(benchmark=benchmark, subject=subject, index=index, **{**fields, **changes})


def runs(n=60, a=0.5, b=0.6, seed=0, benchmark="mtb", subjects=("knowledge", "reasoning")):
    """Two runs whose answers are drawn independently of each other."""
    rng = random.Random(seed)
    items = [(subject, index) for subject in subjects for index in range(n)]
    return tuple(
        [record(index, rng.random() < share, subject, benchmark) for subject, index in items] for share in (a, b)
    )


def pairs(a, b):
    return [Pair(float(x), float(y)) for x, y in zip(a, b, strict=True)]


def test_accuracies_are_those_of_the_evaluation():
    for benchmark, subjects in (("mtb_5shot", ("knowledge", "reasoning")), ("mmlu", SOME)):
        a, b = runs(benchmark=benchmark, subjects=subjects)
        found = compare(a, b, resamples=200)
        expected = [subset_accuracies(records, subsets_of(benchmark, subjects)) for records in (a, b)]
        assert list(found.differences) == list(expected[0])
        for name, each in found.differences.items():
            assert (each.n, each.a, each.b) == pytest.approx((expected[0][name].n, *(e[name].value for e in expected)))
            assert each.low < each.value < each.high
    assert list(found.differences)[:5] == ["macro", "micro", "humanities", "other", "stem"]


def test_order_of_the_lines_does_not_matter():
    a, b = runs(n=30)
    rng = random.Random(3)
    once, again = compare(a, b), compare(rng.sample(a, len(a)), rng.sample(b, len(b)))
    assert (again.differences, again.notes) == (once.differences, once.notes)


def test_swapping_the_runs_mirrors_the_finding():
    a, b = runs(n=200, a=0.3)
    there, back = compare(a, b).differences["all"], compare(b, a).differences["all"]
    assert (there.verdict, back.verdict) == ("B is better", "A is better")
    assert (there.p_value, there.only_a, there.only_b) == (pytest.approx(back.p_value), back.only_b, back.only_a)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)


def test_a_run_against_itself_is_alike_but_not_certain():
    a, _ = runs(n=98, subjects=["reasoning"])
    found = compare(a, a).differences["all"]
    assert (found.verdict, found.p_value, found.only_a, found.only_b) == ("alike: equally right everywhere", 1.0, 0, 0)
    assert (found.low, found.high) == pytest.approx((-0.030, 0.030), abs=0.001)


def test_macro_counts_each_subject_once_and_resamples_within_it():
    """A gains on the large subject what B gains on the small one: questions favour A, subjects neither."""
    rng = random.Random(0)
    large = pairs([1] * 80 + [0] * 320, [0] * 400)
    small = pairs([0] * 20, [1] * 4 + [0] * 16)
    macro, micro = difference([large, small], macro=True), difference([large, small])
    assert macro.value == pytest.approx(0)
    assert (macro.verdict, micro.verdict) == ("not separable from noise", "A is better")
    assert (macro.test, micro.test) == ("sign_flip", "mcnemar")
    # An independent bootstrap of whole questions, subject by subject.
    means = []
    for _ in range(3000):
        drawn = [[p.b - p.a for p in rng.choices(part, k=len(part))] for part in (large, small)]
        means.append(sum(sum(part) / len(part) for part in drawn) / 2)
    assert (macro.low, macro.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.012)


def test_a_subject_of_one_question_has_no_macro_interval():
    found = difference([pairs([0, 1, 1], [1, 1, 0]), pairs([0], [1])], macro=True)
    assert (found.low, found.detectable, found.verdict) == (None, None, "cannot be told: a subject of one question")


def simulate(n, a, b, times, strata=1, seed=0):
    """Comparisons of two models with known accuracies; answers to one question depend on how hard it is."""
    rng = np.random.default_rng(seed)
    for trial in range(times):
        parts = []
        for stratum in range(strata):
            hardness = rng.normal(0, 0.15, n + 17 * stratum)
            right = [rng.random(len(hardness)) < np.clip(share + hardness, 0, 1) for share in (a, b)]
            parts.append(pairs(*right))
        yield difference(parts, strata > 1, resamples=400, seed=trial)


@pytest.mark.parametrize(("n", "a", "b", "strata"), [(98, 0.3, 0.4, 1), (40, 0.5, 0.5, 1), (12, 0.4, 0.55, 6)])
def test_intervals_hold_the_true_difference(n, a, b, strata):
    held = [found.low <= b - a <= found.high for found in simulate(n, a, b, 300, strata)]
    assert sum(held) / len(held) >= 0.93


@pytest.mark.parametrize(("n", "strata"), [(98, 1), (12, 6), (3, 2)])
def test_equal_models_seldom_look_different(n, strata):
    wins = [found.separable for found in simulate(n, 0.4, 0.4, 300, strata, seed=1)]
    assert sum(wins) / len(wins) <= 0.07


def test_a_detectable_difference_is_detected_four_times_in_five():
    found = list(simulate(367, 0.35, 0.45, 300, seed=2))
    detectable = float(np.mean([each.detectable for each in found]))
    assert 0.09 < detectable < 0.11
    assert 0.7 < np.mean([each.separable for each in found]) < 0.9


def test_askings_of_one_question_are_one_item():
    """Ten askings that always agree give the evidence of one."""
    a, b = runs(n=40, subjects=["knowledge"], b=0.7)

    def repeated(records):
        return [
            replace(each, repeat=i, prompt_sha256=f"{each.prompt_sha256}/{i}") for each in records for i in range(5)
        ]

    once, often = (compare(*both).differences["all"] for both in ((a, b), (repeated(a), repeated(b))))
    assert (often.n, often.a, often.low, often.high) == pytest.approx((once.n, once.a, once.low, once.high))
    assert (often.p_value, often.only_a, often.only_b) == (once.p_value, once.only_a, once.only_b)
    with pytest.raises(UserError, match="the askings of question knowledge 0 differ, A 0, 1, 2, 3, 4 and B 0"):
        compare(repeated(a), b)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_version": 2}, "the prompt versions of question s 0 differ, A 1 and B 2"),
        ({"num_fewshot": 5}, r"the numbers of examples \(num_fewshot\) of question s 0 differ, A 0 and B 5"),
        ({"prompt_style": "lm_eval"}, "the prompt styles of question s 0 differ, A opencompass and B lm_eval"),
        ({"chat": True}, r"the prompt forms \(chat\) of question s 0 differ"),
        ({"prompt_sha256": "other"}, "the prompt hashes of question s 0 differ, A s0 and B other"),
        (
            {"shots_kept": 2, "prompt_sha256": "o"},
            r"in the window \(scorer.max_length\) of question s 0 differ, A 0 and B 2",
        ),
        ({"gold": "C"}, "the right answers of question s 0 differ, A A and B C"),
    ],
)
def test_runs_that_were_asked_differently_are_refused(changes, words):
    a = [record(index, subject="s") for index in range(5)]
    with pytest.raises(UserError, match=words) as refusal:
        compare(a, [replace(each, **changes) for each in a])
    assert "\n" not in str(refusal.value)


def test_questions_of_one_run_are_left_out_and_counted():
    a, b = runs(n=20, subjects=["knowledge"])
    found = compare(a[:15], [replace(each, bos="") for each in b[2:]])
    assert (found.paired, found.only_in_a, found.only_in_b) == (13, 2, 5)
    assert found.notes == [
        "2 questions are in A alone and left out",
        "5 questions are in B alone and left out",
        "tokens in front differ: A ['<s>'], B ['']",
    ]
    with pytest.raises(UserError, match="no question is in both"):
        compare(a[:3], b[3:])


def test_a_run_is_a_file_an_evaluation_or_the_last_step_of_a_training(tmp_path):
    a, _ = runs(n=3)
    steps = tmp_path / "train" / "eval"
    for folder in (tmp_path / "e" / "mtb", steps / "step-000900" / "mtb", steps / "step-1000000" / "mtb"):
        write_lines(folder / "predictions.jsonl", a)
    (steps / "step-2000000").mkdir()
    assert prediction_files(tmp_path / "e") == prediction_files(tmp_path / "e" / "mtb")
    assert prediction_files(tmp_path / "train") == [steps / "step-1000000" / "mtb" / "predictions.jsonl"]
    assert prediction_files(steps / "step-000900" / "mtb" / "predictions.jsonl")[0].parts[-3] == "step-000900"
    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no predictions.jsonl")):
        with pytest.raises(UserError, match=words):
            read_run(path)


def test_records_written_before_the_newest_fields_are_read(tmp_path):
    write_lines(tmp_path / "p.jsonl", [record(0)])
    line = json.loads((tmp_path / "p.jsonl").read_text())
    for name in ("prompt_style", "chat", "repeat", "order"):
        line.pop(name)
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    assert compare_runs(tmp_path / "p.jsonl", tmp_path / "p.jsonl")[0].paired == 1


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with the runs `x=1` and `two`, of one benchmark in common."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    a, b = runs(n=80, b=0.8)
    write_lines(tmp_path / "x=1" / "mtb" / "predictions.jsonl", a)
    write_lines(tmp_path / "two" / "mtb" / "predictions.jsonl", b)
    write_lines(tmp_path / "two" / "quiz" / "predictions.jsonl", [record(0, benchmark="quiz")])
    write_lines(tmp_path / "quiz" / "quiz" / "predictions.jsonl", [record(0, benchmark="quiz")])

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        code = 0
        try:
            module.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def test_the_command_prints_a_table_and_writes_numbers_and_a_picture(command, tmp_path):
    code, out, err = command("x=1", "two", "output_dir=found", "resamples=500")
    assert (code, err) == (0, "")
    assert "mtb: B against A, 160 questions" in out
    assert "B is better" in out
    assert "calibration of A and B: not reported: 160 questions" in out
    assert (tmp_path / "found" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "found" / "comparison.json").read_text())
    assert (found["a"], found["b"], list(found["benchmarks"])) == ("x=1", "two", ["mtb"])
    whole = found["benchmarks"]["mtb"]["differences"]["all"]
    assert whole["separable"] is True
    assert whole["low"] < whole["difference"] < whole["high"]


def test_the_default_output_and_its_refusals(command, tmp_path):
    assert command("a=x=1", "b=two")[0] == 0
    assert len(list((tmp_path / "outputs" / "compare").glob("*/comparison.json"))) == 1
    for arguments, words in (
        (["two"], "error: compare: give two runs"),
        (["x=1", "quiz"], "no benchmark is in both runs: x=1 has ['mtb'], quiz has ['quiz']"),
        (["x=1", "nowhere"], "error: nowhere does not exist"),
        (["two", "two", "resamples=3"], "resamples=3"),
        (["two", "two", "sed=3"], "sed"),
    ):
        code, _, err = command(*arguments)
        assert (code, len(err.splitlines())) == (1, 1), err
        assert words in err
    assert "'three' is one more" in str(command("one", "two", "three")[0])


def test_help_teaches(command):
    code, out, _ = command("--help")
    assert (code or 0) == 0
    assert "python -m musician.compare outputs/eval/RUN_A outputs/eval/RUN_B" in out
