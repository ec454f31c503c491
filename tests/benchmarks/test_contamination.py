import random

import pytest

from musician.benchmarks.contamination import contamination
from musician.benchmarks.multiple_choice.mmlu import MMLU
from musician.benchmarks.multiple_choice.music_theory_bench import MusicTheoryBench
from musician.benchmarks.multiple_choice.prompts import question_block
from musician.benchmarks.multiple_choice.question import Question
from musician.data.quality.known_questions import GroupRuns, words
from musician.music.abc.extract import split_music

from .toys import Quiz

TUNE = "X:1\nT:The Oracle\nL:1/8\nM:6/8\nK:D\nd2e fgf|e2d B2A|d2e f2a|g2f e3|a2f dfa|gfe d2c|\n"
HIGHER = "X:9\nT:Nobody\nL:1/16\nM:6/8\nK:E\ne4f2 g2a2g2|f4e2 c4B2|e4f2 g4b2|a4g2 f6|b4g2 e2g2b2|a2g2f2 e4d2|\n"
SHORT = "L:1/8\nM:4/4\nK:C\nC E G A G2 c2|B G E C z4|"
SHORT_HIGHER = "X:3\nL:1/8\nM:4/4\nK:D\nD F A B A2 d2|c A F D z4|\n"

STEMS = [
    "Which of these old masters wrote a set of twenty four caprices for the violin alone?",
    f"In which key does the following jig stand?\n{TUNE}",
    f"How does this end?\n{SHORT}",
    "Which note?\nL:1/4\nK:D\n[FGBd]4 |] %1",
    "How many strings has a common lute of six courses?",
]


@pytest.fixture
def quiz():
    quiz = Quiz(STEMS, [0] * len(STEMS))
    quiz.items = [Question(q.subject, q.index, q.stem, ("one by one", "two", "three", "four"), 0) for q in quiz.items]
    return quiz


def found(quiz, *texts):
    report = contamination([quiz], iter(texts))["quiz"]
    assert report.texts == len(texts)
    return [(match.index, match.kind, match.where) for match in report.matches]


def test_a_verbatim_copy_is_found_by_its_words_whatever_surrounds_them(quiz):
    copy = "Today: WHICH of these old masters  wrote a set\nof twenty-four caprices for the violin alone? Paganini!"
    report = contamination([quiz], ["nothing", copy, copy])["quiz"]
    (match,) = report.matches
    assert (match.index, match.subject, match.kind, match.where, match.texts) == (0, "easy", "text", 1, 2)
    assert match.share == 1.0  # of the stem's runs
    assert report.indexes() == [("easy", 0)]


def test_a_whole_prompt_holds_every_run(quiz):
    for question in (quiz.items[0], quiz.items[4]):
        report = contamination([quiz], [f"Human: {question_block(question)} A </s>"])["quiz"]
        (match,) = report.matches
        assert (match.index, match.kind) == (question.index, "text")
        assert match.share == 1.0


def test_a_tune_in_another_key_with_another_title_and_unit_is_found(quiz):
    assert found(quiz, "prose", HIGHER) == [(1, "melody", 1), (1, "contour", 1)]
    assert found(quiz, HIGHER.replace("X:9\n", "Human: play X:9\n")) == [(1, "melody", 0), (1, "contour", 0)]


def test_a_tune_in_another_rhythm_is_found_by_its_contour(quiz):
    assert found(quiz, HIGHER.replace("2", "").replace("4", "6")) == [(1, "contour", 0)]


def test_a_part_of_a_tune_is_found_and_its_share_told(quiz):
    part = HIGHER.replace("a4g2 f6|b4g2 e2g2b2|a2g2f2 e4d2|", "")
    (match,) = [m for m in contamination([quiz], [part, HIGHER])["quiz"].matches if m.kind == "melody"]
    assert (match.where, match.share, match.texts) == (1, 1.0, 1)
    longer = HIGHER.replace("a2g2f2 e4d2|", "")
    (match,) = [m for m in contamination([quiz], [longer, longer])["quiz"].matches if m.kind == "melody"]
    assert (match.where, match.texts) == (0, 2)
    assert 0 < match.share < 1


def test_a_short_melody_counts_where_it_is_the_whole_of_a_training_melody(quiz):
    assert found(quiz, SHORT_HIGHER) == [(2, "melody", 0)]
    assert found(quiz, SHORT_HIGHER + "d2 d2 d2 d2|\n") == []


def test_nothing_is_found_in_shuffled_text_or_music(quiz):
    rng = random.Random(0)

    def mixed(text):
        parts = text.split()
        rng.shuffle(parts)
        return " ".join(parts)

    head, bars = "X:1\nL:1/8\nM:6/8\nK:D\n", list("d2efgfed2BAdefagfeafdfagfed")
    tunes = []
    for _ in range(50):
        rng.shuffle(bars)
        tunes.append(head + " ".join(bars) + "\n")
    texts = [mixed(STEMS[0]) for _ in range(50)] + [mixed(STEMS[4]) for _ in range(50)]
    assert found(quiz, *texts, *tunes, "", "K:", "X:1\nK:C\n") == []


def test_wording_that_many_questions_share_is_no_evidence():
    wording = "Which of the following words best describes the thing that is shown in the example"
    quiz = Quiz([f"{wording} {i}" for i in range(4)], [0] * 4)
    assert found(quiz, f"{wording} above?") == []
    assert found(quiz, f"{wording} 2 a b c d") == [(2, "text", 0)]


def test_each_question_counts_once_and_what_cannot_be_recognised_is_told(quiz, tmp_path):
    asked = [q.reordered((3, 1, 0, 2), repeat) for q in quiz.items for repeat in range(2)]
    quiz.items = asked
    report = contamination([quiz], [question_block(asked[0].reordered((0, 1, 2, 3)))])["quiz"]
    assert (report.questions, report.checked_text, report.checked_music) == (5, 5, 2)
    assert report.indexes() == [("easy", 0)]
    assert report.summary() == (
        "quiz: 1 of 5 questions found in 1 training texts, 1 of them at least by half (1 by text, 0 by melody, "
        "0 by contour; 5 could be recognised by text, 2 by music)"
    )


def test_benchmarks_are_reported_apart_in_one_reading(quiz):
    other = Quiz(["A stem of its own that is as long as nine words"], [0])
    other.name = "other"
    reports = contamination([quiz, other], iter([other.items[0].stem, STEMS[0]]))
    assert {name: report.indexes() for name, report in reports.items()} == {
        "quiz": [("easy", 0)],
        "other": [("easy", 0)],
    }


def test_prose_and_music_part_ways():
    prose, tunes = split_music(f"Human: name it\n{TUNE}\nOr this: X:1 L:1/8 M:4/4 K:G GABc|d4|\nA. one\nthe end")
    assert words(prose) == ["human", "name", "it", "or", "this", "a", "one", "the", "end"]
    assert tunes == [TUNE.strip(), "X:1\nL:1/8\nM:4/4\nK:G\nGABc|d4|"]
    assert split_music("Note: this is prose; Key: none") == ("Note: this is prose; Key: none", [])


def test_runs_of_groups():
    index = GroupRuns([["abcdef"], ["xyz"], ["uv"]], length=4, shortest=3, common=9)
    assert index.covered == 2
    assert index.find(["--abcd--"]) == {0: pytest.approx(1 / 3)}
    assert index.find(["cdef", "abcde", "_xyz_"]) == {0: 1.0, 1: 1.0}
    assert index.find(["abc-def", "uv", ""]) == {}
    both = GroupRuns([["abcdef", "abcd"], ["abcdefgh"], ["zabcd"]], length=4, shortest=3, common=2)
    assert both.find(["bcdef"]) == {0: 1.0, 1: 0.5}  # `abcd` is in three groups
    assert both.find(["abcd"]) == {}
    assert GroupRuns([], 4, 3, 9).find(["abcd"]) == {}


def test_real_questions_are_found_and_do_not_find_each_other(data_folder):
    bench = MusicTheoryBench(data_folder / "musictheorybench")
    other = MMLU(data_folder / "mmlu", subjects=["abstract_algebra"])
    texts = [question_block(question) for question in bench.questions()]
    reports = contamination([bench, other], texts)
    assert len(reports["mtb"].indexes()) == reports["mtb"].checked_text >= 18
    assert all(
        match.where == place for place, match in enumerate(m for m in reports["mtb"].matches if m.kind == "text")
    )
    assert reports["mmlu"].indexes() == []
