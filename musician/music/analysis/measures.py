"""What can be said of a written tune without knowing what was asked: is it ABC, does it add up, does it repeat itself?

Each measure is a number by name, shares and truth values from 0 to 1; one that does not apply to a text is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.extract import extract_tunes
from musician.music.abc.pitch import Pitch
from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars, check_header, counted_bars
from musician.music.analysis.form import section_bars
from musician.music.sound.abc2midi import Abc2midi

_OFFICIAL = re.compile(r"X:\d+\n(?:[^\n]*\n)+")
_REPEAT_SIGN = re.compile(r"\|:|:\||::")
_PHRASES = (2, 4, 8)


def first_tune(text: str) -> Tune | None:
    """Return the first tune of a text that has notes."""
    found = extract_tunes(text)
    return parse_tune(found[0].abc) if found else None


def measure_format(text: str, second: Abc2midi | None = None) -> dict[str, float]:
    """Return the levels of well-formedness of a written text.

    `format/extracted`: the original's own pattern finds a tune in it (from `X:` and a number on a line of its own).
    `format/header`: there is a tune with `X:` and `K:`, readable meter and unit, notes and a bar line.
    `format/abc2midi`: abc2midi reports no error and writes sounding notes; only where a second reader is given.
    `format/strict`: header, and every bar lasts as long as its meter says, and abc2midi, where given, reports nothing.
    """
    tune = first_tune(text)
    levels = {"extracted": bool(_OFFICIAL.search(text + "\n")), "header": tune is not None and _has_header(tune)}
    strict = bool(tune and levels["header"] and not check_bars(tune))
    if second is not None:
        report = second.report(tune.text) if tune else None
        levels["abc2midi"] = bool(report and not report.errors and report.notes)
        strict = strict and levels["abc2midi"] and not (report and report.bar_warnings)
    return {f"format/{name}": float(held) for name, held in (levels | {"strict": strict}).items()}


def _has_header(tune: Tune) -> bool:
    return not check_header(tune) and any(bar.barline for bar in tune.bars)


def measure_tune(tune: Tune) -> dict[str, float]:
    """Return what a tune is like.

    `bars/right`, `bars/all_right`: the share of bars that add up, and whether all do; without a meter neither.
    `repetition/signs`: it has a repeat sign (the ChatMusician paper's repetition rate). `repetition/written_N`: share
    of its phrases of N bars that stood before, written out. `repetition/longest_run`: most equal bars in a row, which
    tells a loop from music. `form/sections`: how many. `key/outside`: share of notes outside the key signature.
    """
    values: dict[str, float] = {"repetition/signs": float(bool(_REPEAT_SIGN.search(tune.body)))}
    if counted := counted_bars(tune):
        faults = len(check_bars(tune))
        values |= {"bars/right": 1 - faults / counted, "bars/all_right": float(not faults)}
    bars = [_music(bar) for bar in next(iter(tune.voices.values()), [])]
    for size in _PHRASES:
        phrases = [tuple(bars[start : start + size]) for start in range(0, len(bars) - size + 1, size)]
        if len(phrases) > 1:
            values[f"repetition/written_{size}"] = 1 - len(set(phrases)) / len(phrases)
    values["repetition/longest_run"] = float(max((len(list(same)) for _, same in groupby(bars)), default=0))
    values["form/sections"] = float(len(section_bars(tune)))
    return values | _outside(tune.bars)


def _music(bar: Bar) -> tuple[object, ...]:
    return tuple((note.midi, note.duration, note.stacked) for note in bar.notes)


def _outside(bars: Sequence[Bar]) -> dict[str, float]:
    notes = [(note, bar.key) for bar in bars for note in bar.notes if note.midi is not None]
    strange = sum(note.alter != key.alterations.get(Pitch(note.place).letter, 0) for note, key in notes)
    return {"key/outside": strange / len(notes)} if notes else {}
