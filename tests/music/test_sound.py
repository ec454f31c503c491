"""MIDI and MusicXML against abc2midi, mido and music21."""

import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from musician.errors import UserError
from musician.music.abc import parse_tune
from musician.music.corpus import COLLECTIONS, iter_tunes
from musician.music.sound import to_midi, to_musicxml

mido = pytest.importorskip("mido")


def heard(path: Path) -> list[tuple[float, int, float]]:
    """Onset and length in quarters of every note of a MIDI file."""
    file = mido.MidiFile(path)
    found = []
    for track in file.tracks:
        now, on = 0, {}
        for event in track:
            now += event.time
            if event.type == "note_on" and event.velocity:
                on.setdefault(event.note, []).append(now)
            elif event.type in ("note_on", "note_off") and on.get(event.note):
                start = on[event.note].pop(0)
                found.append((start / file.ticks_per_beat, event.note, (now - start) / file.ticks_per_beat))
    return sorted(found)


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
@pytest.mark.skipif(shutil.which("abc2midi") is None, reason="abc2midi is not installed")
def test_abc2midi_plays_the_same_on_most_tunes(tmp_path: Path) -> None:
    """Repeats included; the rest is classed in docs/abc.md."""
    sample = random.Random(3).sample(list(iter_tunes(list(COLLECTIONS))), 150)
    same = sum(_plays_as_abc2midi(tune.text, tmp_path) for tune in sample)
    print(f"abc2midi: {same} of {len(sample)} the same")
    assert same >= 0.85 * len(sample)


def _plays_as_abc2midi(text: str, folder: Path) -> bool:
    (folder / "a.abc").write_text(text + "\n")
    options = ["-NGRA", "-NFNP", "-NGUI", "-quiet", "-silent"]
    subprocess.run(["abc2midi", "a.abc", "-o", "theirs.mid", *options], cwd=folder, capture_output=True, check=False)
    to_midi(parse_tune(text), folder / "ours.mid")
    ours, theirs = heard(folder / "ours.mid"), heard(folder / "theirs.mid")
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
