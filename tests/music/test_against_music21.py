"""The reader against music21's, an independent one, over real tunes."""

import re
from collections import Counter
from fractions import Fraction
from itertools import groupby
from typing import Any

import pytest

from musician.music.abc import parse_tune
from musician.music.corpus import CorpusTune, default_collections, iter_tunes

TUNES = 150


def sampled() -> list[CorpusTune]:
    tunes = list(iter_tunes(default_collections()))
    by_collection = {name: list(group) for name, group in groupby(tunes, key=lambda tune: tune.collection)}
    each = -(-TUNES // len(by_collection))
    return [tune for group in by_collection.values() for tune in group[:: max(1, len(group) // each)][:each]]


def ours(text: str) -> list[tuple[frozenset[int], Fraction]]:
    events: list[tuple[set[int], Fraction]] = []
    for note in parse_tune(text).notes:
        pitch = set() if note.midi is None else {note.midi}
        if note.stacked:
            events[-1][0].update(pitch)
        else:
            events.append((pitch, note.duration))
    return [(frozenset(pitches), time) for pitches, time in events]


def simplified(text: str) -> str:
    """Drop what changes neither pitch nor time and what music21 10.5 trips over.

    It loses notes after the letter decorations (`HA`), does not see a broken rhythm through a slur or a staccato dot
    (`(A>.B)`), and reads signs inside annotations (`">"`, `"4"`) and the beam filler "`".
    """
    lines = []
    for line in text.split("\n"):
        if not re.match(r"[A-Za-z]:(?![|:])", line):
            line = re.sub(r'"[^"]*"|[.~HTuv`)]|\((?![0-9])', "", line.partition("%")[0])
        lines.append(line)
    return "\n".join(line for line in lines if line.strip())


def theirs(text: str, converter: Any) -> list[tuple[frozenset[int], Fraction]]:
    """music21's reading; only a text that claims version 2.1 has its accidentals hold through the bar."""
    stream = converter.parse(f"%abc-2.1\n{text}", format="abc")
    return [
        (frozenset(pitch.midi for pitch in event.pitches), Fraction(event.quarterLength) / 4)
        for event in stream.flatten().notesAndRests
        if not event.duration.isGrace
    ]


def disagreement(left: list[Any], right: list[Any]) -> str:
    if left == right:
        return "none"
    if len(left) != len(right):
        return "number of notes"
    return "pitch" if [pitch for pitch, _ in left] != [pitch for pitch, _ in right] else "duration"


def compared(text: str, converter: Any) -> str:
    try:
        return disagreement(ours(text), theirs(text, converter))
    except Exception as error:
        return f"music21 raised {type(error).__name__}"


@pytest.mark.slow
def test_decorations_change_no_note() -> None:
    for tune in sampled():
        assert ours(tune.text) == ours(simplified(tune.text)), (tune.file, tune.index)


@pytest.mark.slow
def test_pitches_and_durations_agree_on_nine_tunes_in_ten(capsys: pytest.CaptureFixture[str]) -> None:
    converter = pytest.importorskip("music21.converter")
    tunes = sampled()
    as_written = Counter(compared(tune.text, converter) for tune in tunes)
    plain = {f"{tune.file} {tune.index}": compared(simplified(tune.text), converter) for tune in tunes}
    found = Counter(plain.values())
    with capsys.disabled():
        print(f"\nas written {dict(as_written)}\nsimplified {dict(found)}")
        print(*(f"  {where}: {kind}" for where, kind in plain.items() if kind != "none"), sep="\n")
    assert found["none"] >= 0.9 * len(tunes)
