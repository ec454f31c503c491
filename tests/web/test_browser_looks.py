"""What the page looks like and who can use it: narrow and wide, light and dark, keyboard, screen readers."""

import pytest

from .browsing import TUNE, ask, notes, until, visiting, writer
from .conftest import Scripted, serving, wait_for

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
WIDTHS = "[document.documentElement.scrollWidth, document.body.scrollWidth]"


def accessible(page):
    """Fail with axe's findings; the rules of WCAG 2.1 AA, contrast among them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe; pip install 'musician[dev]'")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}).response
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []


def test_on_a_phone_nothing_is_wider_than_the_screen(browser):
    long = "a" * 300
    tune = f"X:1\nT:{long}\nM:6/8\nL:1/8\nK:D\n" + "|:" + "def gab|" * 24 + "\n"
    with serving(writer(f"{long}\n\n{tune}"), writer()) as client, visiting(browser, client, **PHONE) as page:
        assert page.evaluate(WIDTHS) == [390, 390]
        ask(page, long)
        assert page.locator("#sheet-a").is_visible()
        assert not page.locator("#prompt").is_visible()
        assert page.evaluate(WIDTHS) == [390, 390]
        box = page.locator("#sheet-a svg[role=img]").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        play = page.locator("#play").bounding_box()
        assert play["y"] + play["height"] <= 844
        page.click(".views [data-view=talk]")
        assert page.locator("#prompt").is_visible()
        assert page.evaluate(WIDTHS) == [390, 390]


def test_a_tune_that_comes_all_at_once_is_shown_on_a_phone_too(browser):
    with serving(Scripted(TUNE)) as client, visiting(browser, client, **PHONE) as page:
        ask(page)
        assert page.locator("#sheet-a").is_visible()
        assert notes(page) == 19


def test_turning_the_screen_draws_anew_and_playing_goes_on(browser):
    with serving(writer()) as client, visiting(browser, client) as page:
        ask(page)
        page.click("#play")
        page.wait_for_selector("#transport[data-state=playing]")
        page.set_viewport_size({"width": 390, "height": 844})
        page.click(".views [data-view=stage]")
        until(page, "document.querySelector('#sheet-a svg').getBoundingClientRect().width < 390")
        assert page.get_attribute("#transport", "data-state") == "playing"
        until(page, "document.querySelectorAll('#sheet-a svg .sounding').length > 0")


def luminance(page, selector):
    """Mean of a background's red, green and blue, 0 to 255."""
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).backgroundColor")
    return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


def test_dark_follows_the_system_until_chosen(browser):
    with serving(writer()) as client, visiting(browser, client, color_scheme="dark") as page:
        assert luminance(page, "body") < 40
        page.emulate_media(color_scheme="light")
        wait_for(lambda: luminance(page, "body") > 220 or page.wait_for_timeout(20))
        page.click("#theme")
        assert luminance(page, "body") < 40
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert luminance(page, "body") < 40
        assert page.get_attribute("#theme", "aria-pressed") == "true"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(browser, colours):
    with (
        serving(writer(), writer()) as client,
        visiting(browser, client, color_scheme=colours, reduced_motion="reduce") as page,
    ):
        accessible(page)
        ask(page)
        page.fill("#editor", page.input_value("#editor").replace("d2 e", "d3 e"))
        page.wait_for_selector(".bar-problem")
        accessible(page)
        page.click("#tab-check")
        accessible(page)
        for opener in ("#open-settings", "#open-history"):
            page.click(opener)
            accessible(page)
            page.keyboard.press("Escape")


def test_the_keyboard_alone_is_enough(browser):
    with serving(writer()) as client, visiting(browser, client) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.type("Write a waltz.")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("In A minor.")
        page.keyboard.press("Enter")
        page.wait_for_selector("body:not([data-busy])")
        assert page.locator(".message.user .body").inner_text() == "Write a waltz.\nIn A minor."
        page.keyboard.press("Alt+p")
        page.wait_for_selector("#transport[data-state=playing]")
        page.focus("#tab-abc")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == "tab-check"
        assert page.locator("#panel-check").is_visible()
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid"


def test_screen_readers_are_told(browser):
    with serving(writer()) as client, visiting(browser, client) as page:
        ask(page)
        label = page.get_attribute("#sheet-a svg", "aria-label")
        assert label == "Score: Test Waltz. Am · 3/4"
        assert page.get_by_role("status").first.inner_text() == "Done."
        assert page.get_by_role("button", name="Play").is_visible()
        assert page.get_by_role("tab", name="Check").is_visible()
        assert notes(page) == 19
