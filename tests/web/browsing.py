"""A real browser on the page: Debian's Chromium, driven by Playwright."""

import contextlib
from urllib.parse import urlsplit

from .conftest import Scripted, wait_for

#: In A minor, so that it is told from G major at sight; 8 bars of 3/4, 18 notes and a rest.
TUNE = """X:1
T:Test Waltz
M:3/4
L:1/4
Q:1/4=240
K:Am
A B c | d2 e | f e d | e3 |
A B c | d2 e | c B A | A2 z |
"""
PITCHES = [69, 71, 72, 74, 76, 77, 76, 74, 76, 69, 71, 72, 74, 76, 72, 71, 69, 69]


def pieces(text, size=6):
    """The text in pieces such as a model writes."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def writer(text=TUNE, **options):
    """A model that writes this."""
    return Scripted(*pieces(text), **options)


@contextlib.contextmanager
def visiting(browser, client, fragment="", console_errors=(), **options):
    """A page in a fresh profile; at the end nothing must have asked elsewhere or gone wrong.

    Args:
        console_errors: beginnings of complaints that are meant to come.
    """
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(15_000)
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.asked = asked
    page.goto(f"{client.base_url}/{fragment}")
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    here = urlsplit(str(client.base_url)).netloc
    assert [url for url in asked if urlsplit(url).netloc not in (here, "") or url.startswith("file:")] == []
    assert [line for line in wrong if not line.startswith(tuple(console_errors))] == []


def ask(page, text="Write a waltz."):
    """Send a message and wait for the whole answer."""
    page.fill("#prompt", text)
    page.keyboard.press("Enter")
    page.wait_for_selector("body:not([data-busy])")


def notes(page, sheet="#sheet-a"):
    """How many notes and rests are engraved."""
    return page.locator(f"{sheet} svg .abcjs-note, {sheet} svg .abcjs-rest").count()


def until(page, expression, seconds=15):
    """Wait until a JavaScript expression is true; Playwright's own wait needs `eval`, which the page forbids."""
    wait_for(lambda: page.evaluate(expression) or page.wait_for_timeout(20), seconds)


def wait_for_notes(page, count, sheet="#sheet-a"):
    """Wait until so many notes and rests are engraved."""
    wait_for(lambda: notes(page, sheet) == count or page.wait_for_timeout(20), 15)
