"""The tempo that `Q:` gives, beside abc2midi's."""

import shutil
import subprocess
from pathlib import Path

import pytest
from abc_readers import abc2midi

from musician.music.abc.reader import parse_tune
from musician.music.abc.repeats import playing_order
from musician.music.abc.tempo import clock, quarters_a_minute
from musician.music.sound.sounding import to_midi
from musician.runtime.errors import UserError

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


CHANGING = [
    "|:CDEF GABc|\nQ:1/4=60\nCDEF GABc:|CDEF GABc|",
    "CDEF [Q:1/4=240]GABc|[Q:3/8=80]CDEF GABc|",
    "Q:1/4=90\nCDEF GABc|CDEF GABc|Q:1/4=30\nC8|",
]


@pytest.mark.parametrize("body", CHANGING)
def test_changes_of_tempo_are_written_as_abc2midi_does(body: str, tmp_path: Path) -> None:
    """By the length of the whole in seconds, as mido reads both files."""
    text = f"X:1\nM:4/4\nL:1/8\nQ:1/4=120\nK:C\n{body}\n"
    read = parse_tune(text)
    to_midi(read, tmp_path / "ours.mid")
    ours = mido.MidiFile(tmp_path / "ours.mid").length
    orders = {name: order.bars for name, order in playing_order(read).items()}
    whole = sum(bar.duration for bar in next(iter(orders.values())))
    assert ours == pytest.approx(clock(read, orders)(whole), abs=0.01)
    to_midi(read, tmp_path / "fast.mid", quarters_a_minute=240)
    assert mido.MidiFile(tmp_path / "fast.mid").length == pytest.approx(ours / 2, abs=0.01)
    if "|:" not in body:  # there a repeat keeps the tempo it ends in; here each bar has the one it is written in
        abc2midi(text, tmp_path, "-quiet", "-silent")
        assert mido.MidiFile(tmp_path / "tune.mid").length == pytest.approx(ours, abs=0.06)


def test_a_tempo_that_no_file_can_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot say"):
        to_midi(parse_tune(tune("Q:1/4=2")), tmp_path / "a.mid")


def test_a_number_without_end_costs_nothing() -> None:
    assert quarters_a_minute(parse_tune(tune("Q:1/4=" + "9" * 5000))) == 9999
