import sys
from types import ModuleType, SimpleNamespace

import pytest

from musician.benchmarks.tune_theory import TuneTheory
from musician.errors import UserError


@pytest.fixture
def generator(monkeypatch):
    """Stands for `musician.music.questions`, which has tests of its own."""

    def make_questions(texts, per_topic, seed):
        topics = ("meter", "interval") if texts else ()
        options = ("3/4", "4/4", "6/8", "2/4")
        return [SimpleNamespace(topic=t, stem=f"{t} {i}", options=options, answer=i % 4, source=texts[0])
                for t in topics for i in range(per_topic)]  # fmt: skip

    module = ModuleType("musician.music.questions")
    module.make_questions = make_questions
    monkeypatch.setitem(sys.modules, "musician.music.questions", module)


def test_topics_are_the_subjects(generator):
    benchmark = TuneTheory(["X:1\nK:C\nCDEF|"], per_topic=2, seed=1)
    assert [(q.subject, q.index, q.answer) for q in benchmark.questions()] == [
        ("meter", 0, 0),
        ("meter", 1, 1),
        ("interval", 2, 0),
        ("interval", 3, 1),
    ]
    assert [s.name for s in benchmark.subsets] == ["interval", "meter", "all"]
    assert benchmark.prompt(benchmark.questions()[0]) == (
        "Answer the question about music in ABC notation with one of its four options.\n"
        "meter 0\nA. 3/4\nB. 4/4\nC. 6/8\nD. 2/4\nAnswer:"
    )


def test_no_tunes_is_a_user_error(generator):
    with pytest.raises(UserError, match="no question could be made from 0 held-out tunes"):
        TuneTheory([])
