"""A MIDI performance as ABC, proved: what was written is read again before it is returned."""

from __future__ import annotations

from typing import NamedTuple

from musician.music.abc.elements import Tune
from musician.music.abc.key import Key, parse_key
from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars, check_header
from musician.music.convert.beats import ScoreNote, quantise
from musician.music.convert.induction import find_bars, find_key
from musician.music.convert.notate import notate
from musician.music.convert.performance import Performance, read_midi
from musician.music.sound.sounding import sounding
from musician.runtime.errors import UserError

_SLOWEST, _FASTEST = 10, 400


class Transcription(NamedTuple):
    """A tune's text, and how many notes of percussion were left out."""

    text: str
    percussion: int


def transcribe(data: bytes, title: str = "") -> Transcription:
    """Write the bytes of a MIDI file as ABC.

    Beats are the file's where its notes lie on them, else tracked. Meter and key are the file's where it has one time
    signature, and a key signature that is not C (which programs write unasked); else they are estimated, and so are
    the pick-up, modes and spelling. Velocities, pedals and grace notes are not written; tempo as one `Q:`.

    Raises:
        UserError: as `read_midi`; or what was written does not add up when read again.
    """
    played = read_midi(data)
    notes = quantise(played)
    bars, key = find_bars(notes, played.meter), _key(played, notes)
    header = [f"T:{' '.join(title.split())}"] if title.split() else []
    tune = parse_tune(notate(notes, bars, key, [*header, *_tempo(played, notes)]))
    _prove(tune, notes)
    return Transcription(tune.text, played.percussion)


def _key(played: Performance, notes: list[ScoreNote]) -> Key:
    return parse_key(played.key) if played.key not in ("", "C") else find_key(notes)


def _tempo(played: Performance, notes: list[ScoreNote]) -> list[str]:
    """Return the mean tempo as a field, where there is one."""
    seconds = (played.notes[-1].onset - played.notes[0].onset) * played.quarter / played.ticks
    beats = notes[-1].onset - notes[0].onset
    tempo = round(60 * float(beats) / seconds) if seconds else 0
    return [f"Q:1/4={tempo}"] if _SLOWEST <= tempo <= _FASTEST else []


def _prove(tune: Tune, notes: list[ScoreNote]) -> None:
    start = notes[0].onset
    meant = {((note.onset - start) / 4, note.midi, note.duration / 4) for note in notes}
    read = {note for bars in tune.voices.values() for note in sounding(bars)}
    if check_header(tune) or check_bars(tune) or meant != {tuple(note) for note in read}:
        raise UserError("the MIDI file cannot be written as ABC whose bars add up and hold its notes")
