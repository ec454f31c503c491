import json
import logging
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.benchmarks.multiple_choice.music_theory_bench import ORDERS, MusicTheoryBench, drawn_orders, shuffled
from musician.benchmarks.multiple_choice.question import Question
from musician.runtime.errors import UserError

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


STORED = Question("knowledge", 3, "Which?", ("one", "two", "three", "four"), 2)


@given(st.integers(0, 500), st.integers(0, 3), st.integers(1, 24), st.integers())
def test_a_shuffle_moves_the_right_answer_with_its_text(index, answer, shuffles, seed):
    stored = Question("knowledge", index, "Which?", ("one", "two", "three", "four"), answer)
    asked = shuffled([stored], shuffles, seed)
    assert [q.repeat for q in asked] == list(range(shuffles))
    assert len({q.options for q in asked}) == shuffles
    for question in asked:
        assert question.options[question.answer] == stored.options[answer]
        assert question.options == tuple(stored.options[place] for place in question.order)
        assert question.stored_options == stored.options
        assert (question.stem, question.subject, question.index) == (stored.stem, stored.subject, index)


def test_orders_depend_on_seed_and_row_alone():
    others = [Question("reasoning", i, "?", ("a", "b", "c", "d"), 0) for i in range(3)]
    alone, among = shuffled([STORED], 5, 7), shuffled([*others, STORED], 5, 7)
    assert among[-5:] == alone
    assert shuffled([STORED], 3, 7) == alone[:3]
    assert shuffled([STORED], 5, 8) != alone
    assert drawn_orders(3, 7)[:2] == [(2, 0, 3, 1), (3, 2, 0, 1)]  # the same in every process and version


def test_right_answers_fall_on_every_letter_alike():
    counts = Counter(q.answer for i in range(400) for q in shuffled([Question("", i, "", STORED.options, 0)], 5, 0))
    assert all(400 < counts[letter] < 600 for letter in range(4))
    assert {q.order for q in shuffled([STORED], 24, 0)} == set(ORDERS)


def test_the_published_metric_has_its_own_name(tmp_path):
    write(tmp_path, "test", [row("first", answer="B"), row("second")])
    write(tmp_path, "dev", [row("shown")])
    benchmark = MusicTheoryBench(tmp_path, num_fewshot=1, option_shuffles=5, shuffle_seed=1)
    assert benchmark.name == "mtb_1shot_shuffled"
    assert [(q.index, q.repeat) for q in benchmark.questions()] == [(i, r) for i in range(2) for r in range(5)]
    prompts = {benchmark.prompt(q) for q in benchmark.questions()}
    assert len(prompts) == 10
    assert all("shown\nA. one\nB. two\nC. three\nD. four\nAnswer: A\n\n" in prompt for prompt in prompts)
    assert [q.index for q in MusicTheoryBench(tmp_path, limit=1, option_shuffles=2).questions()] == [0, 0]
    stored = MusicTheoryBench(tmp_path)
    assert (stored.name, {q.repeat for q in stored.questions()}) == ("mtb", {0})
    for shuffles in (25, -1):
        with pytest.raises(UserError, match=f"option_shuffles={shuffles}; four options have 24 orders"):
            MusicTheoryBench(tmp_path, option_shuffles=shuffles)


def test_style_and_chat_are_part_of_the_name(tmp_path):
    write(tmp_path, "test", [row(" padded ")])
    benchmark = MusicTheoryBench(tmp_path, style="lm_eval", chat=True, option_shuffles=5)
    assert (benchmark.name, benchmark.style, benchmark.chat) == ("mtb_lm_eval_shuffled_chat", "lm_eval", True)
    assert "option.\n\npadded\nA. " in benchmark.prompt(benchmark.questions()[0])


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
    with pytest.raises(UserError, match=r"num_fewshot=5, but 'knowledge' has 1 examples"):
        MusicTheoryBench(tmp_path, num_fewshot=5)
    (tmp_path / "test.jsonl").write_text("{broken\n")
    with pytest.raises(UserError, match=r"test.jsonl line 1: not valid JSON"):
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
