"""What is wrong with the tunes of a text, bar by bar."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from musician.music.abc.reader import Tune, parse_tune
from musician.music.abc.repeats import playing_order
from musician.music.analysis.check import check_bars, check_header

_START = re.compile(r"(?:\A|(?<=[\n\r]))X:")
_SHOWN_SIGNS = 40


def check_text(text: str) -> list[dict[str, Any]]:
    """Return title, key, meter, unit, bars and problems of each tune; a text without `X:` is read as one fragment.

    Positions are those of JavaScript, which counts characters beyond U+FFFF twice.
    """
    starts = [found.start() for found in _START.finditer(text)] or [0]
    place = _Places(text)
    return [_checked(parse_tune(text[start:end]), start, place) for start, end in pairwise([*starts, len(text)])]


class _Places:
    """Positions in a text as JavaScript counts them."""

    def __init__(self, text: str) -> None:
        self._wide = [place for place, character in enumerate(text) if ord(character) > 0xFFFF]

    def __call__(self, place: int) -> int:
        return place + bisect_left(self._wide, place)


def _checked(tune: Tune, offset: int, place: _Places) -> dict[str, Any]:
    return {
        "title": tune.field("T"),
        "key": tune.key.name,
        "meter": str(tune.meter) if tune.meter else "free",
        "unit": str(tune.unit),
        "bars": list(_bars(tune, offset, place)),
        "problems": [*check_header(tune), *_unread(tune), *_order(tune)],
    }


def _bars(tune: Tune, offset: int, place: _Places) -> Iterator[dict[str, Any]]:
    faults = {(fault.voice, fault.bar): fault for fault in check_bars(tune)}
    for voice, bars in tune.voices.items():
        for number, bar in enumerate(bars, 1):
            fault = faults.get((voice, number))
            yield {
                "number": number,
                "voice": voice or "1",
                "start": place(offset + bar.start),
                "end": place(offset + bar.end),
                "ok": fault is None,
                "message": f"lasts {fault.duration}, the meter asks for {bar.meter}" if fault else "",
            }


def _unread(tune: Tune) -> Iterator[str]:
    signs = [element.text for element in tune.elements if element.kind == "unread"]
    if signs:
        shown = " ".join(signs)[:_SHOWN_SIGNS]
        yield f"{len(signs)} {'sign is' if len(signs) == 1 else 'signs are'} no ABC and passed over: {shown}"


def _order(tune: Tune) -> Iterator[str]:
    if any(order.cut for order in playing_order(tune).values()):
        yield "with its repeats and parts the tune is too long to play"
