"""A tune as a file to keep: MIDI, WAV, MusicXML. Its length is looked at before any of it is made."""

from __future__ import annotations

import io
import wave
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from musician.errors import UserError
from musician.music.abc import Bar, Tune, parse_tune
from musician.music.repeats import playing_order
from musician.music.sound import Sounding, sounding, to_midi
from musician.music.tempo import quarters_a_minute
from musician.music.transpose import transpose_by
from musician.page.engrave import engrave
from musician.page.limits import Limits
from musician.page.timbre import RATE, Samples, Timbre, fade, tone

#: All voices and notes of chords together may sound so many times as long as the tune may last.
_VOICES = 4
_LOUDEST = 0.89
#: Quarter notes a minute; a MIDI file cannot say less than 4.
_SLOWEST, _FASTEST = 4, 1000


class TooLong(UserError):
    """A tune beyond the limits."""


def midi(text: str, semitones: int, tempo: float | None, limits: Limits) -> bytes:
    """Return the first tune of a text as a MIDI file.

    Raises:
        TooLong: beyond the limits.
        UserError: no note, no such transposition, or mido is not installed.
    """
    tune, speed = _prepared(text, semitones, tempo, limits)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tune.mid"
        to_midi(tune, path, quarters_a_minute=speed)
        return path.read_bytes()


def musicxml(text: str, semitones: int, limits: Limits) -> bytes:
    """Return the first tune of a text as MusicXML; raises as `midi` (music21 instead of mido)."""
    tune, _ = _prepared(text, semitones, None, limits)
    return engrave(tune.text)


def wav(text: str, semitones: int, tempo: float | None, timbre: Timbre, limits: Limits) -> bytes:
    """Return the first tune of a text as 16-bit mono WAV, repeats played, grace notes left out; raises as `midi`."""
    tune, speed = _prepared(text, semitones, tempo, limits)
    notes = [note for order in playing_order(tune).values() for note in sounding(order.bars)]
    if not notes:
        raise UserError("the tune has no note to sound")
    return wave_file(_mixed(notes, float(240 / speed), timbre))


def wave_file(samples: Samples) -> bytes:
    """Samples `[count]` between -1 and 1 as a 16-bit mono WAV file."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())
    return written.getvalue()


def _prepared(text: str, semitones: int, tempo: float | None, limits: Limits) -> tuple[Tune, Fraction]:
    """Return the tune, transposed, and its quarter notes a minute, once it is known not to be too long."""
    if len(text) > limits.max_abc_chars:
        raise TooLong(f"the tune has {len(text)} characters, at most {limits.max_abc_chars} are read")
    tune = parse_tune(text)
    speed = Fraction(tempo).limit_denominator(100) if tempo else quarters_a_minute(tune)
    if not _SLOWEST <= speed <= _FASTEST:
        raise UserError(f"the tempo is {float(speed):g} quarter notes a minute; give one of {_SLOWEST} to {_FASTEST}")
    for order in playing_order(tune).values():
        if order.cut:
            raise TooLong("with its repeats and parts the tune is too long to play")
        _measure(order.bars, float(240 / speed), limits)
    if semitones:
        tune = parse_tune(transpose_by(tune, semitones))
    return tune, speed


def _measure(bars: Sequence[Bar], whole: float, limits: Limits) -> None:
    """Refuse bars that are too many notes or too long; `whole` is the length of a whole note in seconds."""
    notes, seconds, sounds = 0, 0.0, 0.0
    lengths: dict[int, float] = {}
    for bar in bars:
        if id(bar) not in lengths:
            lengths[id(bar)] = sum(float(note.duration) for note in bar.notes) * whole
        notes += len(bar.notes)
        seconds += float(bar.duration) * whole
        sounds += lengths[id(bar)]
        if notes > limits.notes:
            raise TooLong(f"the tune has more than {limits.notes} notes with its repeats")
        if seconds > limits.sound_seconds or sounds > _VOICES * limits.sound_seconds:
            raise TooLong(f"the tune lasts longer than {limits.sound_seconds:g} seconds")


def _mixed(notes: Sequence[Sounding], whole: float, timbre: Timbre) -> Samples:
    """Add the notes up, pitch by pitch, each tone made once, and turn the sum down where it would be too loud."""
    by_pitch: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for note in notes:
        by_pitch[note.midi].append((float(note.onset) * whole, float(note.duration) * whole))
    end = max(onset + length for each in by_pitch.values() for onset, length in each)
    found = np.zeros(round((end + timbre.release) * RATE) + 2, np.float32)
    for pitch, each in by_pitch.items():
        longest = tone(timbre, pitch, max(length for _, length in each) + timbre.release)
        for onset, length in each:
            start, count = round(onset * RATE), round((length + timbre.release) * RATE)
            found[start : start + count] += fade(longest[:count], timbre)
    peak = float(np.abs(found).max(initial=0))
    return found * (_LOUDEST / max(peak, _LOUDEST))
