"""The reader against music21's, an independent one, over real tunes of every collection.

Where they differ, notations that music21 10.5 misreads (docs/abc.md says how, by the standard) are taken out one after
the other (a `::` is set apart), none of which changes a note; the first that makes both agree names the class.
"""

import random
import re
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import pytest

from musician.data.sources.corpus import COLLECTIONS, CorpusTune, iter_tunes
from musician.music.abc.reader import parse_tune

TUNES = 520
Events = list[tuple[frozenset[int], Fraction]]
MISREAD = [
    ("letter decorations", r"[~HTuvM](?=[\^_=A-Ga-gxz(.\[\"{uv~])|[HTuv](?=\s*[|:\]x])"),
    ("annotations", r'"[^"\n]*"'),
    ("staccato dots", r"\."),
    ("beam marks", "`"),
    ("slurs", r"\((?![0-9])|\)"),
    ("decorations", r"![^!\s]*!"),
    ("grace notes", r"\{[^{}\n]*\}"),
    ("comments", r"%.*"),
    ("notes that touch ::", "::"),
]


def sampled() -> list[CorpusTune]:
    """Draw tunes, as many of each collection as it has up to an equal share."""
    by_collection: dict[str, list[CorpusTune]] = defaultdict(list)
    for tune in iter_tunes(list(COLLECTIONS)):
        by_collection[tune.collection].append(tune)
    rng, found = random.Random(1), list[CorpusTune]()
    groups = sorted(by_collection.values(), key=len)
    for place, group in enumerate(groups):
        share = (TUNES - len(found)) // (len(groups) - place)
        found += rng.sample(group, min(len(group), share))
    return found


def joined(events: list[tuple[set[int], Fraction, bool]]) -> Events:
    """Join tied notes of one pitch: music21 ties what it splits."""
    found: Events = []
    tied = False
    for pitches, time, tie in events:
        if tied and found and found[-1][0] == pitches:
            found[-1] = (found[-1][0], found[-1][1] + time)
        else:
            found.append((frozenset(pitches), time))
        tied = tie and bool(pitches)
    return found


def ours(text: str) -> list[Events]:
    voices = []
    for bars in parse_tune(text).voices.values():
        events: list[tuple[set[int], Fraction, bool]] = []
        for note in (each for bar in bars for each in bar.notes):
            pitch = set() if note.midi is None else {note.midi}
            if note.stacked:
                events[-1][0].update(pitch)
            else:
                events.append((pitch, note.duration, note.tie))
        voices.append(joined(events))
    return voices


def theirs(text: str, converter: Any) -> list[Events]:
    """music21's reading; only a text that claims version 2.1 has its accidentals hold through the bar."""
    stream = converter.parse(f"%abc-2.1\n{text}", format="abc")
    return [
        joined(
            [
                (
                    {pitch.midi for pitch in event.pitches},
                    Fraction(event.quarterLength) / 4,
                    event.tie is not None and event.tie.type in ("start", "continue"),
                )
                for event in part.flatten().notesAndRests
                if not event.duration.isGrace and "ChordSymbol" not in event.classes
            ]
        )
        for part in (stream.parts or [stream])
    ]


def without(text: str, pattern: str) -> str:
    lines = text.split("\n")
    music = [not re.match(r"[A-Za-z]:(?![|:])|%", line) for line in lines]
    instead = " ::" if pattern == "::" else ""
    edited = [re.sub(pattern, instead, line) if played else line for line, played in zip(lines, music, strict=True)]
    return "\n".join(line for line in edited if line.strip())


def compared(text: str, converter: Any) -> str:
    """Return `none`, the class of a disagreement, or how it shows where no class explains it."""
    right = ours(text)
    tried = text
    for name, pattern in [("none", "(?!)"), *MISREAD]:
        tried = without(tried, pattern) if name != "none" else text
        try:
            read = theirs(tried, converter)
        except Exception as error:
            read, shown = None, f"music21 raises {type(error).__name__}"
        if read == right and ours(tried) == right:
            return name
    if read is None:
        return shown
    if [[time for _, time in voice] for voice in read] == [[time for _, time in voice] for voice in right]:
        return "octave" if _octaves_apart(right, read) else "pitch"
    return "number of voices" if len(read) != len(right) else "notes or times"


def _octaves_apart(left: list[Events], right: list[Events]) -> bool:
    pairs = zip((e for voice in left for e in voice), (e for voice in right for e in voice), strict=True)
    return all({pitch % 12 for pitch in one} == {pitch % 12 for pitch in other} for (one, _), (other, _) in pairs)


@pytest.mark.slow
def test_pitches_and_durations_agree(capsys: pytest.CaptureFixture[str]) -> None:
    converter = pytest.importorskip("music21.converter")
    kinds = {(tune.file, tune.index): compared(tune.text, converter) for tune in sampled()}
    found = Counter(kinds.values())
    explained = {"none", *(name for name, _ in MISREAD)}
    with capsys.disabled():
        print(f"\n{len(kinds)} tunes: {found.most_common()}")
        print(*(f"  {where}: {kind}" for where, kind in kinds.items() if kind not in explained), sep="\n")
    assert len(kinds) >= 500
    assert sum(found[kind] for kind in explained) >= 0.95 * len(kinds)
    assert found["none"] >= 0.84 * len(kinds)
