"""Routes of a tune: what is wrong with it, how it sounds, files of it."""

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
from musician.web.jobs.asking import Body
from musician.web.routes.chat import Here
from musician.web.routes.checking import check_text

router = APIRouter()

#: Files made at a time; each may take a core and some hundred megabytes.
_at_work = BoundedSemaphore(2)
_PATIENCE_SECONDS = 30
_NOTE = re.compile(r"([A-G])([b#s]?)([0-8])", re.ASCII)
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NOTE_SECONDS = 3.0
_NOTE_LOUDNESS = 0.8
_DAY = {"cache-control": "private, max-age=86400"}


class Abc(Body):
    """A text with a tune."""

    abc: str


class Transposed(Abc):
    """A tune moved by semitones."""

    transpose: int = Field(default=0, ge=-24, le=24)


class Played(Transposed):
    """A tune and how to play it; tempo is in quarter notes a minute, null is that of the tune."""

    tempo: float | None = Field(default=None, ge=10, le=400)
    instrument: str = Field(default="acoustic_grand_piano", max_length=60)


@router.post("/api/check")
def check(body: Abc, here: Here) -> dict[str, object]:
    """Say of every bar whether it adds up."""
    return {"tunes": check_text(_read(body, here))}


@router.post("/api/originality")
def originality(body: Abc, here: Here) -> dict[str, object]:
    """Say which of the known tunes is nearest."""
    if here.known is None:
        raise HTTPException(404, "there are no tunes to compare with; start the server with tunes=FOLDER")
    return {"nearest": here.known.nearest(_read(body, here))}


def _read(body: Abc, here: Here) -> str:
    most = here.limits.max_abc_chars
    if len(body.abc) > most:
        raise HTTPException(413, f"the text has {len(body.abc)} characters, at most {most} are read")
    return body.abc


@router.post("/api/abc")
def abc_file(body: Transposed, here: Here) -> Response:
    """The tune's text."""
    text = transpose_by(parse_tune(_read(body, here)), body.transpose)
    return Response(text, media_type="text/vnd.abc; charset=utf-8", headers=_named("abc"))


@router.post("/api/midi")
def midi_file(body: Played, here: Here) -> Response:
    """The tune as a MIDI file."""
    return _file(lambda: midi(body.abc, body.transpose, body.tempo, here.limits), "audio/midi", "mid")


@router.post("/api/musicxml")
def musicxml_file(body: Played, here: Here) -> Response:
    """The tune as MusicXML."""
    kind = "application/vnd.recordare.musicxml+xml"
    return _file(lambda: musicxml(body.abc, body.transpose, here.limits), kind, "musicxml")


@router.post("/api/wav")
def wav_file(body: Played, here: Here) -> Response:
    """The tune as sound."""
    timbre = _timbre(body.instrument)
    return _file(lambda: wav(body.abc, body.transpose, body.tempo, timbre, here.limits), "audio/wav", "wav")


def _file(make: Callable[[], bytes], kind: str, ending: str) -> Response:
    if not _at_work.acquire(timeout=_PATIENCE_SECONDS):
        raise HTTPException(503, "others are having their files made; try again soon")
    try:
        content = make()
    except TooLong as error:
        raise HTTPException(413, str(error)) from None
    finally:
        _at_work.release()
    return Response(content, media_type=kind, headers=_named(ending))


def _named(ending: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="tune.{ending}"'}


@router.get("/sound/{folder}/{name}")
def sound(folder: str, name: str) -> Response:
    """One note, as abcjs asks for it: `/sound/acoustic_grand_piano-mp3/A4.mp3`; the bytes are WAV whatever is asked."""
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
