"""A tune as MIDI or MusicXML, by mido and music21 (the extra `music`)."""

import importlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from musician.errors import UserError
from musician.music.abc import Tune
from musician.music.elements import Bar
from musician.music.repeats import playing_order
from musician.music.tempo import QUARTERS_A_MINUTE

MOST_NOTES = 100_000
MOST_TIME = 10_000
"""Whole notes: a longer piece is refused before any file is made of it."""
TICKS = 3360
"""MIDI ticks in a quarter note: exact for eighths to 128ths, triplets, quintuplets and septuplets."""
_VELOCITY = 80


class Sounding(NamedTuple):
    """A note as it sounds: onset and duration in whole notes from the start, ties joined."""

    onset: Fraction
    midi: int
    duration: Fraction


def sounding(bars: Sequence[Bar]) -> list[Sounding]:
    """Return the notes of bars in the order given, by onset; tied notes are one, grace notes are left out.

    Raises:
        UserError: more than `MOST_NOTES` notes or `MOST_TIME` whole notes.
    """
    found: list[Sounding] = []
    tied: dict[int, tuple[int, Fraction]] = {}
    for onset, midi, duration, tie in _written(bars):
        place, until = tied.pop(midi, (-1, onset))
        if place >= 0 and until == onset:
            found[place] = found[place]._replace(duration=found[place].duration + duration)
        else:
            place = len(found)
            found.append(Sounding(onset, midi, duration))
        if tie:
            tied[midi] = (place, onset + duration)
        if len(found) > MOST_NOTES or onset + duration > MOST_TIME:
            raise UserError(f"the tune has over {MOST_NOTES} notes or {MOST_TIME} whole notes: too long to sound")
    return sorted(found)


def _written(bars: Sequence[Bar]) -> Iterator[tuple[Fraction, int, Fraction, bool]]:
    start = Fraction(0)
    for bar in bars:
        for note in bar.notes:
            if note.midi is not None:
                yield start + note.onset, note.midi, note.duration, note.tie
        start += bar.duration


def to_midi(
    tune: Tune, path: Path, repeats: bool = True, quarters_a_minute: float | Fraction = QUARTERS_A_MINUTE
) -> None:
    """Write a tune as a MIDI file of one track a voice, in a constant tempo.

    Raises:
        UserError: mido is not installed, the tune has no note or is too long.
    """
    mido = _library("mido")
    file = mido.MidiFile(ticks_per_beat=TICKS, type=1)
    orders = playing_order(tune) if repeats else {}
    voices = [sounding(orders[name].bars if repeats else bars) for name, bars in tune.voices.items()]
    if not any(voices):
        raise UserError("the tune has no note to sound")
    file.tracks.append(_conductor(mido, tune, quarters_a_minute))
    file.tracks += [_track(mido, notes) for notes in voices]
    file.save(str(path))


def _conductor(mido: Any, tune: Tune, quarters_a_minute: float | Fraction) -> Any:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(float(quarters_a_minute)))])
    meter = tune.meter
    if meter and meter.unit & (meter.unit - 1) == 0 and meter.beats < 256:
        track.append(mido.MetaMessage("time_signature", numerator=meter.beats, denominator=meter.unit))
    return track


def _track(mido: Any, notes: Sequence[Sounding]) -> Any:
    events = [(_ticks(note.onset + note.duration), 0, note.midi) for note in notes]
    events += [(_ticks(note.onset), _VELOCITY, note.midi) for note in notes]
    track, now = mido.MidiTrack(), 0
    for time, velocity, midi in sorted(events):
        track.append(mido.Message("note_on", note=midi, velocity=velocity, time=time - now))
        now = time
    return track


def _ticks(time: Fraction) -> int:
    return round(time * 4 * TICKS)


def to_musicxml(tune: Tune, path: Path) -> None:
    """Write a tune as MusicXML: pitches as spelled, bars, repeats, endings, keys and meters.

    Raises:
        UserError: music21 is not installed, or the tune has no note or is too long.
    """
    if not any(sounding(bars) for bars in tune.voices.values()):
        raise UserError("the tune has no note to write")
    _library("music21")
    from musician.music.score import score

    with TemporaryDirectory() as folder:
        written = Path(score(tune).write("musicxml", fp=str(Path(folder) / "score.musicxml")))
        path.write_bytes(written.read_bytes())


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed: pip install 'musician[music]'") from error
