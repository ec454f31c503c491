"""Routes that make files and sounds of a tune."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from threading import BoundedSemaphore

from fastapi import APIRouter, HTTPException, Response
from pydantic import Field

from musician.music.abc.reader import parse_tune
from musician.music.edit.transpose import transpose_by
from musician.music.sound.render import TooLong, midi, musicxml, wav, wave_file
from musician.music.sound.timbre import Timbre, fade, find_timbre, tone
from musician.web.routes.schemas import Abc
from musician.web.service import ServiceDep

router = APIRouter()

#: Files made at a time; each may take a core and some hundred megabytes.
_file_slots = BoundedSemaphore(2)
_PATIENCE_SECONDS = 30
_NOTE = re.compile(r"([A-G])([b#s]?)([0-8])", re.ASCII)
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NOTE_SECONDS = 3.0
_NOTE_LOUDNESS = 0.8
_DAY = {"cache-control": "private, max-age=86400"}


class Transposed(Abc):
    """A tune moved by semitones."""

    transpose: int = Field(default=0, ge=-24, le=24)


class Played(Transposed):
    """A tune and how to play it; tempo is in quarter notes a minute, null is that of the tune."""

    tempo: float | None = Field(default=None, ge=10, le=400)
    instrument: str = Field(default="acoustic_grand_piano", max_length=60)


@router.post("/api/abc")
def abc_file(body: Transposed, service: ServiceDep) -> Response:
    """The tune's text."""
    text = transpose_by(parse_tune(body.text(service)), body.transpose)
    return _attachment(text.encode(), "text/vnd.abc; charset=utf-8", "abc")


@router.post("/api/midi")
def midi_file(body: Played, service: ServiceDep) -> Response:
    """The tune as a MIDI file."""
    return _file(lambda: midi(body.abc, body.transpose, body.tempo, service.limits), "audio/midi", "mid")


@router.post("/api/musicxml")
def musicxml_file(body: Played, service: ServiceDep) -> Response:
    """The tune as MusicXML."""
    media_type = "application/vnd.recordare.musicxml+xml"
    return _file(lambda: musicxml(body.abc, body.transpose, service.limits), media_type, "musicxml")


@router.post("/api/wav")
def wav_file(body: Played, service: ServiceDep) -> Response:
    """The tune as sound."""
    timbre = _timbre(body.instrument)
    return _file(lambda: wav(body.abc, body.transpose, body.tempo, timbre, service.limits), "audio/wav", "wav")


def _file(make: Callable[[], bytes], media_type: str, suffix: str) -> Response:
    if not _file_slots.acquire(timeout=_PATIENCE_SECONDS):
        raise HTTPException(503, "others are having their files made; try again soon")
    try:
        return _attachment(make(), media_type, suffix)
    except TooLong as error:
        raise HTTPException(413, str(error)) from None
    finally:
        _file_slots.release()


def _attachment(content: bytes, media_type: str, suffix: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="tune.{suffix}"'}
    return Response(content, media_type=media_type, headers=headers)


@router.get("/sound/{folder}/{name}")
def sound(folder: str, name: str) -> Response:
    """One note, as abcjs requests it: `/sound/acoustic_grand_piano-mp3/A4.mp3`; the bytes are WAV whatever is asked."""
    instrument, _, ending = folder.partition("-")
    note, _, kind = name.rpartition(".")
    found = _NOTE.fullmatch(note)
    if found is None or ending not in ("", "mp3", "wav") or kind not in ("mp3", "wav"):
        raise HTTPException(404, "there is no such note; ask for /sound/INSTRUMENT/A4.wav, A0 to C8")
    sign = {"": 0, "b": -1, "#": 1, "s": 1}[found[2]]
    pitch = 12 * (int(found[3]) + 1) + _STEPS[found[1]] + sign
    if not 21 <= pitch <= 108:
        raise HTTPException(404, "there is no such note; a piano has A0 to C8")
    return Response(_single(_timbre(instrument), pitch), media_type="audio/wav", headers=_DAY)


def _timbre(instrument: str) -> Timbre:
    found = find_timbre(instrument)
    if found is None:
        raise HTTPException(404, f"there is no instrument like {instrument[:60]!r}; use a name of General MIDI")
    return found


@lru_cache(maxsize=128)
def _single(timbre: Timbre, pitch: int) -> bytes:
    return wave_file(fade(tone(timbre, pitch, _NOTE_SECONDS), timbre) * _NOTE_LOUDNESS)
