import json
import logging

import pyarrow
import pyarrow.parquet
import pytest

from musician.benchmarks.music_theory_bench import MusicTheoryBench
from musician.errors import UserError

HINT = "Use the example below to answer the question that follows."


def row(stem="Which?", answer="A", subject="knowledge", abc_score=None, **options):
    texts = {"A": "one", "B": "two", "C": "three", "D": "four", **options}
    return {"id": 7, "instruction": "no", "stem": stem, "options": texts, "subject": subject, "answer": answer,
            "split": "test", "abc_score": abc_score, "analysis": "no"}  # fmt: skip


def write(folder, split, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_score_is_appended_and_its_pointer_removed(tmp_path):
    write(
        tmp_path, "test", [row(f"{HINT} Which chord? ", abc_score="L:1/4\nK:D\n[FGBd]4 |] %1\n"), row(f" {HINT} raw ")]
    )
    scored, raw = MusicTheoryBench(tmp_path).questions()
    assert scored.stem == "Which chord?\nL:1/4\nK:D\n[FGBd]4 |] %1\n"
    assert raw.stem == f" {HINT} raw "


def test_unusable_rows_are_named_and_keep_the_numbering(tmp_path, caplog):
    write(tmp_path, "test", [row(A=""), row(answer=None), row("kept", subject="reasoning"), row(subject="rhythm")])
    with caplog.at_level(logging.WARNING):
        (question,) = MusicTheoryBench(tmp_path).questions()
    assert (question.index, question.subject, question.answer) == (2, "reasoning", 0)
    assert "left out 3 unusable rows" in caplog.text
    assert "row 0 (option A empty); row 1 (answer is None); row 3 (subject is 'rhythm')" in caplog.text


def test_rows_without_subject_are_asked_and_reported(tmp_path, caplog):
    write(tmp_path, "test", [row(subject=None), row()])
    benchmark = MusicTheoryBench(tmp_path)
    assert {s.name: s.subjects for s in benchmark.subsets}["all"] == ("unlabelled", "knowledge")
    assert "1 rows name no subject: [0]" in caplog.text


def test_examples_are_the_dev_rows_and_the_name_tells_the_shots(tmp_path):
    write(tmp_path, "test", [row("asked")])
    write(tmp_path, "dev", [row(f"shown {i}", answer="ABCDA"[i]) for i in range(5)])
    benchmark = MusicTheoryBench(tmp_path, num_fewshot=5)
    prompt = benchmark.prompt(benchmark.questions()[0])
    assert benchmark.name == "mtb_5shot"
    assert prompt.index("shown 0") < prompt.index("shown 4") < prompt.index("asked")
    assert "shown 1" not in benchmark.prompt(benchmark.questions()[0], 1)
    assert MusicTheoryBench(tmp_path).name == "mtb"


def test_limit_and_subjects_choose_rows(tmp_path):
    rows = [row(f"{i}", subject="reasoning" if i % 2 else "knowledge") for i in range(6)]
    write(tmp_path, "test", rows)
    assert [q.index for q in MusicTheoryBench(tmp_path, limit=2).questions()] == [0, 1, 2, 3]
    assert [q.index for q in MusicTheoryBench(tmp_path, subjects=["reasoning"], limit=1).questions()] == [1]


def test_parquet_in_the_hub_layout_reads_like_json_lines(tmp_path):
    rows = [row(abc_score="K:C\n"), row("second", answer="D", subject="reasoning")]
    write(tmp_path / "lines", "test", rows)
    (tmp_path / "hub" / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "hub" / "data" / "test-0-of-1.parquet")
    lines, hub = MusicTheoryBench(tmp_path / "lines"), MusicTheoryBench(tmp_path / "hub")
    assert lines.questions() == hub.questions()


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"needs test\*.parquet or test\*.jsonl; none in"):
        MusicTheoryBench(tmp_path)
    with pytest.raises(UserError, match="did you mean 'reasoning'"):
        MusicTheoryBench(tmp_path, subjects=["resoning"])
    write(tmp_path, "test", [row()])
    write(tmp_path, "dev", [row()])
    with pytest.raises(UserError, match=r"num_fewshot=5, but .* 1 usable dev rows"):
        MusicTheoryBench(tmp_path, num_fewshot=5)
    (tmp_path / "test.jsonl").write_text("{broken\n")
    with pytest.raises(UserError, match=r"test.jsonl:1 is not JSON"):
        MusicTheoryBench(tmp_path)


def test_real_sample(data_folder):
    benchmark = MusicTheoryBench(data_folder / "musictheorybench", num_fewshot=5)
    assert len(benchmark.questions()) == 19
    prompt = benchmark.prompt(benchmark.questions()[0])
    assert prompt.startswith(
        "Read the following questions from the four options (A, B, C and D) given in each question. "
        "Choose the best option.\n"
        "Which of the following best describes the seventh chord in the above example?\n"
        "L:1/4\nM:4/4\nK:D\n[FGBd]4 |] %1\n"
        "A. Major seventh in third inversion\n"
        "B. Dominant seventh in second inversion\n"
        "C. Major/minor seventh in third inversion\n"
        "D. Minor seventh in second inversion\n"
        "Answer: A\n"
        "\n"
        "Which of the following is the name of the note in the above example?\n"
    )
