"""MIDI and MusicXML against abc2midi, mido and music21."""

import random
from pathlib import Path
from typing import Any

import pytest
from abc_readers import abc2midi_notes, heard

from musician.errors import UserError
from musician.music.abc import parse_tune
from musician.music.corpus import COLLECTIONS, iter_tunes
from musician.music.sound import to_midi, to_musicxml

pytest.importorskip("mido")


def test_a_tune_sounds_as_written(tmp_path: Path) -> None:
    to_midi(parse_tune("X:1\nL:1/4\nM:3/4\nK:G\n|:F2-F|[GB]z(3A/B/c/:|"), tmp_path / "a.mid")
    once = [(0, 66, 3), (3, 67, 1), (3, 71, 1), (5, 69, 1 / 3), (5 + 1 / 3, 71, 1 / 3), (5 + 2 / 3, 72, 1 / 3)]
    expected = once + [(onset + 6, midi, time) for onset, midi, time in once]
    assert [midi for _, midi, _ in heard(tmp_path / "a.mid")] == [midi for _, midi, _ in expected]
    for left, right in zip(heard(tmp_path / "a.mid"), expected, strict=True):
        assert left == pytest.approx(right, abs=1e-3)


@pytest.mark.parametrize("body", ["", "z4", "C999999999 " * 9, "C" * 200_000])
def test_silence_and_bombs_are_refused(body: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no note|too long"):
        to_midi(parse_tune(f"X:1\nL:1/1\nK:C\n{body}"), tmp_path / "a.mid")


@pytest.mark.slow
def test_abc2midi_plays_the_same_on_most_tunes(tmp_path: Path) -> None:
    """Repeats included; the rest is classed in docs/abc.md."""
    sample = random.Random(3).sample(list(iter_tunes(list(COLLECTIONS))), 150)
    same = sum(_plays_as_abc2midi(tune.text, tmp_path) for tune in sample)
    print(f"abc2midi: {same} of {len(sample)} the same")
    assert same >= 0.85 * len(sample)


def _plays_as_abc2midi(text: str, folder: Path) -> bool:
    to_midi(parse_tune(text), folder / "ours.mid")
    ours, theirs = heard(folder / "ours.mid"), abc2midi_notes(text, folder)
    return [midi for _, midi, _ in ours] == [midi for _, midi, _ in theirs] and all(
        abs(left[0] - right[0]) < 0.02 for left, right in zip(ours, theirs, strict=True)
    )


@pytest.mark.slow
def test_musicxml_keeps_pitches_and_times(tmp_path: Path, corpus_sample: list[str]) -> None:
    converter: Any = pytest.importorskip("music21.converter")
    for text in corpus_sample[::60]:
        tune = parse_tune(text)
        to_musicxml(tune, tmp_path / "a.musicxml")
        read = converter.parse(tmp_path / "a.musicxml").flatten().notes
        assert [pitch.midi for event in read for pitch in event.pitches] == [
            note.midi for note in tune.notes if note.midi is not None
        ]


def test_a_score_has_a_clef_and_its_ties_end(tmp_path):
    to_musicxml(parse_tune("X:1\nM:2/4\nL:1/4\nK:G\nD,,D,,|D,,-D,,-|D,,2|]\n"), tmp_path / "a.musicxml")
    written = (tmp_path / "a.musicxml").read_text()
    assert "<sign>F</sign>" in written
    assert written.count('<tie type="start"') == written.count('<tie type="stop"') == 2
