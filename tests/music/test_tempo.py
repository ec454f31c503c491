"""The tempo that `Q:` gives, beside abc2midi's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from musician.music.abc import parse_tune
from musician.music.sound import to_midi
from musician.music.tempo import quarters_a_minute

mido = pytest.importorskip("mido")

WRITTEN = {
    "Q:1/4=90": 90,
    "Q:3/8=80": 120,
    "Q:1/8=100": 50,
    "Q:1/2=60": 120,
    'Q:"Allegro" 1/4=132': 132,
    'Q:3/8=60 "Jig"': 90,
    "Q:1/4 3/8 1/4 3/8=40": 200,
    "Q: 1/4 = 77": 77,
}


def tune(field: str, meter: str = "4/4") -> str:
    return f"X:1\nM:{meter}\nL:1/8\n{field}\nK:C\nCDEF GABc|\n"


def tempo_of(path: Path) -> float:
    """Quarter notes a minute of a MIDI file's first tempo."""
    events = [event for track in mido.MidiFile(path).tracks for event in track if event.type == "set_tempo"]
    return mido.tempo2bpm(events[0].tempo)


@pytest.mark.parametrize("field", WRITTEN)
def test_a_tempo_is_read_and_written(field: str, tmp_path: Path) -> None:
    found = quarters_a_minute(parse_tune(tune(field)))
    assert found == WRITTEN[field]
    to_midi(parse_tune(tune(field)), tmp_path / "a.mid", quarters_a_minute=found)
    assert tempo_of(tmp_path / "a.mid") == pytest.approx(WRITTEN[field], abs=0.01)


@pytest.mark.skipif(shutil.which("abc2midi") is None, reason="abc2midi is not installed")
@pytest.mark.parametrize("field", [field for field in WRITTEN if "1/4 3/8" not in field])  # sums it does not know
def test_abc2midi_reads_the_same(field: str, tmp_path: Path) -> None:
    (tmp_path / "a.abc").write_text(tune(field))
    subprocess.run(["abc2midi", "a.abc", "-o", "a.mid"], cwd=tmp_path, capture_output=True, check=False)
    assert tempo_of(tmp_path / "a.mid") == pytest.approx(WRITTEN[field], abs=0.5)


@pytest.mark.parametrize("field", ["", "Q:", 'Q:"Andante"', "Q:fast", "Q:=5", "N:Q:1/4=9", "Q:" + "9/" * 9999])
def test_where_no_number_is_given_it_is_120(field: str) -> None:
    assert quarters_a_minute(parse_tune(tune(field))) == 120


@pytest.mark.parametrize(("meter", "expected"), [("4/4", 100), ("6/8", 150), ("3/4", 100), ("9/8", 150)])
def test_a_bare_number_counts_beats(meter: str, expected: int) -> None:
    assert quarters_a_minute(parse_tune(tune("Q:100", meter))) == expected


def test_a_number_without_end_costs_nothing() -> None:
    assert quarters_a_minute(parse_tune(tune("Q:1/4=" + "9" * 5000))) == 9999
