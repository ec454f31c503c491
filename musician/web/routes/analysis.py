"""Routes that analyse a tune: its bars, and how near it is to known tunes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune, tune_spans
from musician.music.analysis.check import check_bars, check_tune
from musician.web.routes.schemas import Abc
from musician.web.service import ServiceDep

router = APIRouter(prefix="/api")


@router.post("/check")
def check(body: Abc, service: ServiceDep) -> dict[str, object]:
    """Report of every bar of every tune whether it adds up."""
    return {"tunes": check_text(body.text(service))}


@router.post("/originality")
def originality(body: Abc, service: ServiceDep) -> dict[str, object]:
    """Name the nearest of the known tunes."""
    if service.known is None:
        raise HTTPException(404, "there are no tunes to compare with; start the server with tunes=FOLDER")
    return {"nearest": service.known.nearest(body.text(service))}


def check_text(text: str) -> list[dict[str, Any]]:
    """Return title, key, meter, unit, bars and problems of each tune; a text without `X:` is read as one fragment.

    Positions are those of JavaScript, which counts characters beyond U+FFFF twice.
    """
    spans = tune_spans(text) or [(0, len(text))]
    wide = [index for index, character in enumerate(text) if ord(character) > 0xFFFF]
    return [_checked(parse_tune(text[start:end]), start, wide) for start, end in spans]


def _checked(tune: Tune, offset: int, wide: Sequence[int]) -> dict[str, Any]:
    return {
        "title": tune.field("T"),
        "key": tune.key.name,
        "meter": str(tune.meter) if tune.meter else "free",
        "unit": str(tune.unit),
        "bars": list(_bars(tune, offset, wide)),
        "problems": check_tune(tune),
    }


def _bars(tune: Tune, offset: int, wide: Sequence[int]) -> Iterator[dict[str, Any]]:
    faults = {(fault.voice, fault.bar): fault for fault in check_bars(tune)}
    for voice, bars in tune.voices.items():
        for number, bar in enumerate(bars, 1):
            fault = faults.get((voice, number))
            yield {
                "number": number,
                "voice": voice or "1",
                "start": offset + bar.start + bisect_left(wide, offset + bar.start),
                "end": offset + bar.end + bisect_left(wide, offset + bar.end),
                "ok": fault is None,
                "message": f"lasts {fault.duration}, the meter asks for {bar.meter}" if fault else "",
            }
