"""MIDI and MusicXML against abc2midi, mido and music21."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from abc_readers import abc2midi, abc2midi_notes, heard

from musician.data.sources.corpus import COLLECTIONS, iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.sound.sounding import to_midi, to_musicxml
from musician.runtime.errors import UserError

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


def test_grace_notes_take_their_time_from_the_note_they_stand_before(tmp_path: Path) -> None:
    to_midi(parse_tune("X:1\nL:1/4\nM:4/4\nK:C\nA {c}[df] {gab}e/ z {d}z|"), tmp_path / "a.mid")
    short = 1 / 12  # three before an eighth share half of it
    assert heard(tmp_path / "a.mid") == [
        pytest.approx(note, abs=1e-3)
        for note in [
            (0, 69, 1), (1, 72, 1 / 8), (1.125, 74, 7 / 8), (1.125, 77, 7 / 8),
            (2, 79, short), (2 + short, 81, short), (2 + 2 * short, 83, short), (2.25, 76, 1 / 4),
        ]
    ]  # fmt: skip


@pytest.mark.parametrize("body", ["A{c}d{ga}e2|{f}g4|", "A>{c}B c2|", "A{c}Bc {d}g2|", "{f}[ce]2 z2|", "A2-{c}A2|"])
def test_abc2midi_sounds_the_same_grace_notes(body: str, tmp_path: Path) -> None:
    """Its grace notes have a quarter of the unit, which is ours here."""
    text = f"X:1\nL:1/8\nM:4/4\nK:C\n{body}"
    to_midi(parse_tune(text), tmp_path / "ours.mid")
    abc2midi(text, tmp_path, "-NFNP", "-NGUI", "-quiet", "-silent")
    ours, theirs = heard(tmp_path / "ours.mid"), heard(tmp_path / "tune.mid")
    assert ours == [pytest.approx(note, abs=0.03) for note in theirs]


#: What abc2midi plays in its own way though the notes are plain; taken out one after the other (docs/abc.md).
OWN_WAYS = [("hornpipes swung", r"(?m)^R:.*\n"), ("ornaments", r"[~TK](?=[\^_=.]*[A-Ga-g])")]


@pytest.mark.slow
def test_abc2midi_plays_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Repeats included. What is left differs in where a repeat without a beginning goes back to (docs/abc.md)."""
    sample = random.Random(3).sample(list(iter_tunes(list(COLLECTIONS))), 150)
    kinds = {(tune.file, tune.index): _difference(tune.text, tmp_path) for tune in sample}
    found = Counter(kinds.values())
    with capsys.disabled():
        print(f"\nabc2midi: {found.most_common()}", *(where for where, kind in kinds.items() if kind == "other"))
    assert found["none"] >= 0.87 * len(sample)
    assert found["other"] <= 0.02 * len(sample)


def _difference(text: str, folder: Path) -> str:
    if _plays_as_abc2midi(text, folder):
        return "none"
    for name, pattern in OWN_WAYS:
        header, key, music = text.partition("\nK:")
        text = re.sub(pattern, "", text) if name != "ornaments" else header + key + re.sub(pattern, "", music)
        if _plays_as_abc2midi(text, folder):
            return name
    return "other"


def _plays_as_abc2midi(text: str, folder: Path) -> bool:
    to_midi(parse_tune(text), folder / "ours.mid", graces=False)
    # abc2midi plays the notes of a chord a fiftieth of a quarter apart.
    ours, theirs = (
        sorted(found, key=_in_16ths) for found in (heard(folder / "ours.mid"), abc2midi_notes(text, folder))
    )
    return [midi for _, midi, _ in ours] == [midi for _, midi, _ in theirs] and all(
        abs(left[0] - right[0]) < 0.03 for left, right in zip(ours, theirs, strict=True)
    )


def _in_16ths(note: tuple[float, int, float]) -> tuple[int, int]:
    return round(note[0] * 16), note[1]


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
