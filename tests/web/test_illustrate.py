"""Tunes as pictures and sounds: what a dashboard shows of them."""

import wave

import pytest

from musician.music.sound import illustrate
from musician.music.sound.illustrate import Illustrator

TUNE = "X:1\nT:A\nM:2/4\nL:1/8\nK:G\nG|A2B2|G3:|\n"


def test_a_tune_is_drawn_and_played_and_prose_is_left_out(tmp_path):
    for name in ("music21", "verovio", "resvg_py"):
        pytest.importorskip(name)
    image = pytest.importorskip("PIL.Image")
    Illustrator(most=2)([f"Here it is:\n{TUNE}", "no tune", TUNE], tmp_path / "tunes")
    assert sorted(path.name for path in (tmp_path / "tunes").iterdir()) == ["000.png", "000.wav"]
    picture = image.open(tmp_path / "tunes" / "000.png").convert("L")
    assert picture.width == 1000
    dark = sum(picture.histogram()[:100])
    assert 500 < dark < picture.width * picture.height / 3  # notes and lines on white
    with wave.open(str(tmp_path / "tunes" / "000.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() > 3


def test_without_an_engraver_it_sounds_and_that_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(illustrate, "find_spec", lambda name: None)
    Illustrator(most=1)([TUNE], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["000.wav"]
    assert "musician[music,engraving]" in caplog.text
