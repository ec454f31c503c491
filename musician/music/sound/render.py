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

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.reader import parse_tune
from musician.music.abc.repeats import playing_order
from musician.music.abc.tempo import Clock, clock
from musician.music.edit.transpose import transpose_by
from musician.music.sound.engrave import engrave
from musician.music.sound.limits import TuneLimits
from musician.music.sound.sounding import SLOWEST, Sounding, sounding, to_midi
from musician.music.sound.timbre import RATE, Samples, Timbre, fade, tone
from musician.runtime.errors import UserError

#: All voices and notes of chords together may sound so many times as long as the tune may last.
_VOICES = 4
_LOUDEST = 0.89
#: Quarter notes a minute.
_FASTEST = 1000


class TooLong(UserError):
    """A tune beyond the limits."""


def midi(text: str, semitones: int, tempo: float | None, limits: TuneLimits) -> bytes:
    """Return the first tune of a text as a MIDI file.

    Raises:
        TooLong: beyond the limits.
        UserError: no note, no such transposition, or mido is not installed.
    """
    tune, timing = _prepared(text, semitones, tempo, limits)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tune.mid"
        to_midi(tune, path, quarters_a_minute=timing.changes[0][1])
        return path.read_bytes()


def musicxml(text: str, semitones: int, limits: TuneLimits) -> bytes:
    """Return the first tune of a text as MusicXML; raises as `midi` (music21 instead of mido)."""
    tune, _ = _prepared(text, semitones, None, limits)
    return engrave(tune.text)


def wav(text: str, semitones: int, tempo: float | None, timbre: Timbre, limits: TuneLimits) -> bytes:
    """Return the first tune of a text as 16-bit mono WAV, repeats played; raises as `midi`."""
    tune, timing = _prepared(text, semitones, tempo, limits)
    notes = [note for order in playing_order(tune).values() for note in sounding(order.bars, graces=True)]
    if not notes:
        raise UserError("the tune has no note to sound")
    return wave_file(_mixed(notes, timing, timbre))


def wave_file(samples: Samples) -> bytes:
    """Samples `[count]` between -1 and 1 as a 16-bit mono WAV file."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())
    return written.getvalue()


def _prepared(text: str, semitones: int, tempo: float | None, limits: TuneLimits) -> tuple[Tune, Clock]:
    """Return the tune, transposed, and its clock, once it is known not to be too long."""
    if len(text) > limits.max_abc_chars:
        raise TooLong(f"the tune has {len(text)} characters, at most {limits.max_abc_chars} are read")
    tune = parse_tune(text)
    orders = playing_order(tune)
    if any(order.cut for order in orders.values()):
        raise TooLong("with its repeats and parts the tune is too long to play")
    begin = Fraction(tempo).limit_denominator(100) if tempo else None
    timing = clock(tune, {name: order.bars for name, order in orders.items()}, begin)
    for _, speed in timing.changes:
        if not SLOWEST <= speed <= _FASTEST:
            raise UserError(
                f"the tempo is {float(speed):g} quarter notes a minute; give one of {SLOWEST} to {_FASTEST}"
            )
    for order in orders.values():
        _measure(order.bars, timing, limits)
    if semitones:
        tune = parse_tune(transpose_by(tune, semitones))
    return tune, timing


def _measure(bars: Sequence[Bar], timing: Clock, limits: TuneLimits) -> None:
    """Refuse bars that are too many notes or too long."""
    notes, now, seconds, sounds = 0, Fraction(0), 0.0, 0.0
    shares: dict[int, float] = {}
    for bar in bars:
        if id(bar) not in shares:
            # How many notes sound at a time, in the mean: chords, overlays.
            shares[id(bar)] = sum(float(note.duration) for note in bar.notes) / float(bar.duration or 1)
        notes += len(bar.notes) + len(bar.graces)
        now += bar.duration
        before, seconds = seconds, timing(now)
        sounds += shares[id(bar)] * (seconds - before)
        if notes > limits.notes:
            raise TooLong(f"the tune has more than {limits.notes} notes with its repeats")
        if seconds > limits.sound_seconds or sounds > _VOICES * limits.sound_seconds:
            raise TooLong(f"the tune lasts longer than {limits.sound_seconds:g} seconds")


def _mixed(notes: Sequence[Sounding], timing: Clock, timbre: Timbre) -> Samples:
    """Add the notes up, pitch by pitch, each tone made once, and turn the sum down where it would be too loud."""
    by_pitch: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for note in notes:
        onset = timing(note.onset)
        by_pitch[note.midi].append((onset, timing(note.onset + note.duration) - onset))
    end = max(onset + length for each in by_pitch.values() for onset, length in each)
    found = np.zeros(round((end + timbre.release) * RATE) + 2, np.float32)
    for pitch, each in by_pitch.items():
        longest = tone(timbre, pitch, max(length for _, length in each) + timbre.release)
        for onset, length in each:
            start, count = round(onset * RATE), round((length + timbre.release) * RATE)
            found[start : start + count] += fade(longest[:count], timbre)
    peak = float(np.abs(found).max(initial=0))
    return found * (_LOUDEST / max(peak, _LOUDEST))
