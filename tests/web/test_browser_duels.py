"""Blind comparison in a real browser: two answers side by side, the vote, and what is told after it."""

import json

import pytest

from .browsing import TUNE, notes, visiting, writer
from .conftest import Scripted, serving, wait_for

pytestmark = pytest.mark.slow


def test_a_blind_duel(browser, tmp_path):
    other = TUNE.replace("Test Waltz", "Other Waltz").replace("A2 z", "A3")
    models = writer(name="first"), writer(other, name="second")
    with serving(*models, votes=tmp_path / "votes.jsonl") as client, visiting(browser, client) as page:
        page.check("#duel")
        page.fill("#prompt", "Write a waltz.")
        page.keyboard.press("Enter")
        page.wait_for_selector("#verdict:not([hidden])")
        seen = page.inner_text("main")
        assert "first" not in seen
        assert "second" not in seen
        assert {notes(page), notes(page, "#sheet-b")} == {18, 19}
        page.click("#sheet-b")
        heard = page.input_value("#editor")
        page.click("#play")
        page.wait_for_selector("#transport[data-state=playing]")
        page.click("[data-choice=b]")
        page.wait_for_selector("body:not([data-busy])")
        winner = "first" if "Test Waltz" in heard else "second"
        assert page.inner_text("#sheet-b .side") == f"B · {winner}"
        assert page.locator(".message.assistant .who").inner_text() == winner
        (vote,) = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
        assert heard.strip() in json.dumps(vote["chosen"]).encode().decode("unicode_escape")


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_a_duel_of_words_can_be_voted_on_too(browser, tmp_path, size):
    models = Scripted("It is a jig.", name="first"), Scripted("It is a reel.", name="second")
    options = {"viewport": {"width": size[0], "height": size[1]}}
    with serving(*models, votes=tmp_path / "votes.jsonl") as client, visiting(browser, client, **options) as page:
        page.check("#duel")
        page.fill("#prompt", "What is it?")
        page.keyboard.press("Enter")
        page.click("[data-choice=neither]")
        page.wait_for_selector("body:not([data-busy])")
        assert page.locator("#empty").is_visible() == (size[0] > 860)
        assert {"first", "second"} <= set(page.locator(".message.assistant .who").all_inner_texts()) or (
            page.input_value("#prompt") == "What is it?"
        )


def test_stopping_a_duel_frees_both_models(browser, tmp_path):
    models = [Scripted(TUNE, "A B c |\n", until_stopped=True, name=name) for name in ("first", "second")]
    with serving(*models, votes=tmp_path / "votes.jsonl") as client, visiting(browser, client) as page:
        page.check("#duel")
        page.fill("#prompt", "Write for ever.")
        page.keyboard.press("Enter")
        wait_for(lambda: (notes(page) > 25 and notes(page, "#sheet-b") > 25) or page.wait_for_timeout(20))
        page.click("#stop")
        page.wait_for_selector("body:not([data-busy])")
        wait_for(lambda: all(model.idle.is_set() for model in models))
        assert not page.locator("#verdict").is_visible()
        assert page.input_value("#prompt") == "Write for ever."
