"""What the check panel is told, with positions as a browser counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.web.routes.analysis import check_text

from .conftest import Scripted, serving

TUNE = "X:1\nT:One\nM:6/8\nL:1/8\nK:Em\nABc def|ABc de|abc abc|\n"


def in_javascript(text, start, end):
    """`text.slice(start, end)` as JavaScript does it: in UTF-16."""
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


@pytest.fixture(scope="module")
def page():
    with serving(Scripted("x")) as client:
        yield client


def test_a_bar_that_does_not_add_up_is_named(page):
    [tune] = page.post("/api/check", json={"abc": TUNE}).json()["tunes"]
    assert (tune["title"], tune["key"], tune["meter"], tune["unit"]) == ("One", "E minor", "6/8", "1/8")
    assert [(bar["number"], bar["voice"], bar["ok"]) for bar in tune["bars"]] == [
        (1, "1", True),
        (2, "1", False),
        (3, "1", True),
    ]
    assert tune["bars"][1]["message"] == "lasts 5/8, the meter asks for 6/8"
    assert TUNE[tune["bars"][1]["start"] : tune["bars"][1]["end"]] == "ABc de"
    assert tune["problems"] == []


@pytest.mark.parametrize("before", ["", "Here is a tune:\n", "\U0001f3b5\U0001f3b5 for you\n\n", "\r\n"])
def test_positions_are_those_of_a_browser(before):
    text = before + TUNE.replace("One", "\U0001f3b6 One") + "\n" + TUNE.replace("X:1", "X:2")
    first, second = check_text(text)
    for tune in (first, second):
        found = [in_javascript(text, bar["start"], bar["end"]) for bar in tune["bars"]]
        assert found == ["ABc def", "ABc de", "abc abc"]


def test_voices_are_counted_apart():
    [tune] = check_text("X:1\nM:2/4\nL:1/8\nK:C\nV:1\nCDEF|CDEF|CDEF|\nV:2\nCDEF|CDE|CDEF|\n")
    assert [(bar["voice"], bar["number"]) for bar in tune["bars"] if not bar["ok"]] == [("2", 2)]


def test_what_else_is_wrong_is_said():
    [tune] = check_text("T:No number\nM:nonsense\nK:C\nCDEF \\0 @ §|\n")
    assert any("no X:" in problem for problem in tune["problems"])
    assert any("is no meter" in problem for problem in tune["problems"])
    assert any("no ABC" in problem for problem in tune["problems"])


def test_a_text_that_is_too_long_is_refused(page):
    assert page.post("/api/check", json={"abc": "C" * 20_001}).status_code == 413


@given(st.text(max_size=300))
def test_any_text_can_be_checked(text):
    for tune in check_text(text):
        for bar in tune["bars"]:
            assert 0 <= bar["start"] <= bar["end"] <= len(text.encode("utf-16-le", "surrogatepass")) // 2
