"""Nothing that a model, a user or a link says is ever more than text, and tunes meant to harm do none."""

import base64
import zlib

import pytest

from .browsing import TUNE, ask, pieces, visiting, writer
from .conftest import serving

pytestmark = pytest.mark.slow

OUTSIDE = "http://192.0.2.1"
HOSTILE = [
    "<script>alert(1)</script>",
    f"<img src={OUTSIDE}/a.png onerror=alert(1)>",
    f"<svg onload=alert(1)><image href='{OUTSIDE}/b.png'/></svg>",
    f"<iframe src='{OUTSIDE}'></iframe>",
    f"![picture]({OUTSIDE}/c.png)",
    "[link](javascript:alert(1))",
    "<a href='javascript:alert(1)'>a</a>",
    f"<style>@import url({OUTSIDE}/d.css);</style>",
    f"<link rel=stylesheet href={OUTSIDE}/e.css>",
    "</text></svg><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "${alert(1)} {{alert(1)}} %3Cscript%3E",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
    '" onmouseover="alert(1)',
]


def hostile_tune(said):
    """A tune that says it wherever text is engraved, and in directives."""
    quoted = said.replace('"', "'")
    return (
        f"X:1\nT:{said}\nT:{said}\nC:{said}\nO:{said}\nR:{said}\nN:{said}\n%%text {said}\n%%center {said}\n"
        f"%%abc-include /etc/passwd\n%%titlefont {said} 20\n%%header {said}\nI:abc-charset {said}\n%%beginsvg\n{said}\n"
        f'%%endsvg\nM:3/4\nL:1/4\nQ:"{quoted}" 1/4=90\nP:{said}\nK:C\n"{quoted}"A "^{quoted}"B "<{quoted}"c|'
        f"!{quoted}!A B [I:{said}]c|\nw:{said}\nW:{said}\n"
    )


COUNT = "document.querySelectorAll('script, img, iframe, image, object, embed, link, style, a, foreignObject').length"
HANDLERS = "[...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) => /^on/.test(a.name))).length"


@pytest.fixture(scope="module")
def inert(browser):
    """A page and its model; at the end, nothing must have asked elsewhere or opened a dialog."""
    model = writer()
    with serving(model) as client, visiting(browser, client) as page:
        yield page, model


@pytest.mark.parametrize("said", HOSTILE)
def test_what_is_said_stays_text(inert, said):
    page, model = inert
    page.click("#new")
    before = page.evaluate(COUNT) - page.locator("#sheets style").count()
    model.name = said
    model.pieces = pieces(f"{said}\n\n# {said}\n\n{hostile_tune(said)}\n{said}\n```html\n{said}\n```\n")
    ask(page, said)
    page.click("#tab-check")
    page.click("#open-history")
    page.wait_for_timeout(50)
    page.keyboard.press("Escape")
    # abcjs puts one style element, whose hash the policy names, into each score.
    assert page.evaluate(COUNT) - page.locator("#sheets style").count() == before
    assert page.evaluate(HANDLERS) == 0
    assert said in page.locator(".message.user .body").text_content()
    assert said in page.locator(".assistant .body > p").first.text_content()
    assert page.locator("#sheet-a svg[role=img]").count() == 1


def test_directives_do_not_change_the_drawing(browser):
    directed = TUNE.replace("K:Am\n", "%%scale 9\n%%staffwidth 9000\nI:visualtranspose 5\nK:Am\n").replace(
        "A B c", "[I:scale 9]A B c", 1
    )
    drawn = []
    for tune in (TUNE, directed):
        with serving(writer(tune)) as client, visiting(browser, client) as page:
            ask(page)
            box = page.locator("#sheet-a svg[role=img]").bounding_box()
            drawn.append((box["width"], box["height"], page.locator("#sheet-a svg path").count()))
    assert drawn[0] == drawn[1]


BOMBS = {
    "a very long note": "C999999999|",
    "a very long rest": "Z9999999|C4|",
    "many repeats": "|:" * 40 + "C4" + ":|" * 40,
    "a very slow tempo": "C999|",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_tune_without_end_is_refused_or_played_but_never_hangs(browser, bomb):
    tempo = "Q:1/4=1\n" if "slow" in bomb else ""
    tune = f"X:1\nT:Bomb\nM:4/4\nL:1/4\n{tempo}K:C\n{BOMBS[bomb]}\n"
    with serving(writer(tune)) as client, visiting(browser, client) as page:
        ask(page)
        page.click("#play")
        page.wait_for_selector("#error:not([hidden]), #transport[data-state=playing]")
        if bomb != "many repeats":
            assert "at most 600 s are played" in page.inner_text("#error")
        assert page.evaluate("1 + 1") == 2


def fragment(text):
    """A link's fragment, made without the page's code."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(text.encode()) + packer.flush()
    return "#tune=" + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def test_a_link_cannot_carry_more_than_the_page_takes(browser):
    with serving(writer()) as client, visiting(browser, client, fragment("A" * 50_000_000)) as page:
        page.wait_for_selector("#error:not([hidden])")
        assert page.input_value("#editor") == ""


def test_a_hostile_link_stays_text(browser):
    link = fragment(hostile_tune("<img src=x onerror=alert(1)>"))
    with serving(writer()) as client, visiting(browser, client, link) as page:
        page.wait_for_selector("#sheet-a svg[role=img]")
        assert page.locator("img").count() == 0


def test_a_damaged_store_does_not_stop_the_page(browser):
    with serving(writer()) as client, visiting(browser, client) as page:
        page.evaluate("localStorage.setItem('musician.history', '{'); localStorage.setItem('musician.settings', '[1')")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        ask(page)
