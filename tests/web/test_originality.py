"""How near the nearest known tune is, as the panel is told."""

import pytest

from musician.music.abc.reader import parse_tune
from musician.music.edit.transpose import transpose_by
from musician.web.known_tunes import KnownTunes

from .conftest import Scripted, serving

OLD = "X:1\nT:The Old One\nM:4/4\nL:1/8\nK:D\nDFAd fdAF|GBdg bgdB|Acea c'aec|d2f2 A2D2|\n"
OTHER = "X:2\nT:The Other\nM:4/4\nL:1/8\nK:G\nG2A2 B2c2|d2e2 f2g2|g2f2 e2d2|c2B2 A2G2|\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunes")
    (folder / "deep").mkdir()
    (folder / "deep" / "book.abc").write_text(OLD + "\n" + OTHER)
    known = KnownTunes(str(folder))
    assert len(known) == 2
    with serving(Scripted("x"), known=known) as client:
        yield client


@pytest.mark.parametrize("semitones", [0, 5, -3])
def test_a_copy_is_found_in_any_key(page, semitones):
    moved = transpose_by(parse_tune(OLD), semitones) if semitones else OLD
    found = page.post("/api/originality", json={"abc": moved.replace("The Old One", "Mine")}).json()["nearest"]
    assert found["title"] == "The Old One"
    assert found["source"] == "deep/book.abc"
    assert found["run"] == 28
    assert found["share"] == 1


def test_half_a_copy_is_half_a_copy(page):
    half = OLD.partition("|Acea")[0] + "|e4 c4|B4 E4|e4 C4|B,4 e4|\n"
    found = page.post("/api/originality", json={"abc": half}).json()["nearest"]
    assert found["run"] == 16
    assert found["share"] == pytest.approx(16 / 24, abs=1e-4)


@pytest.mark.parametrize("text", ["X:1\nK:C\nc4 G3 _e ^f2 A B3 d|a _b C g2|\n", "", "words", "X:1\nK:C\nz4|"])
def test_what_is_like_none_has_no_nearest(page, text):
    assert page.post("/api/originality", json={"abc": text}).json() == {"nearest": None}


def test_the_setup_says_whether_there_are_tunes(page):
    assert page.get("/api/setup").json()["originality"] is True
    with serving(Scripted("x")) as alone:
        assert alone.get("/api/setup").json()["originality"] is False
        assert alone.post("/api/originality", json={"abc": OLD}).status_code == 404


def test_a_text_that_is_too_long_is_refused(page):
    assert page.post("/api/originality", json={"abc": "C" * 20_001}).status_code == 413
