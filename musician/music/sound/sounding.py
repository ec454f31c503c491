"""A tune as MIDI or MusicXML, by mido and music21 (the extra `music`)."""

import importlib
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from musician.music.abc.elements import ZERO, Bar, Tune
from musician.music.abc.repeats import playing_order
from musician.music.abc.tempo import Clock, clock
from musician.runtime.errors import UserError

MOST_NOTES = 100_000
MOST_TIME = 10_000
"""Whole notes: a longer piece is refused before any file is made of it."""
TICKS = 3360
"""MIDI ticks in a quarter note: exact for eighths to 128ths, triplets, quintuplets and septuplets."""
SLOWEST = 4
"""Quarter notes a minute: a MIDI file cannot say less."""
_VELOCITY = 80
_GRACE = Fraction(1, 32)


class Sounding(NamedTuple):
    """A note as it sounds: onset and duration in whole notes from the start, ties joined."""

    onset: Fraction
    midi: int
    duration: Fraction


def sounding(bars: Sequence[Bar], graces: bool = False) -> list[Sounding]:
    """Return the notes of bars in the order given, by onset; tied notes are one.

    Args:
        bars: of one voice.
        graces: sound grace notes too: a 32nd each, but all before a note no more than half of it, which begins so much
            later. The standard leaves their length open.

    Raises:
        UserError: more than `MOST_NOTES` notes or `MOST_TIME` whole notes.
    """
    found: list[Sounding] = []
    tied: dict[int, tuple[int, Fraction]] = {}
    for onset, midi, duration, tie in _written(bars, graces):
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


def _written(bars: Sequence[Bar], graces: bool) -> Iterator[tuple[Fraction, int, Fraction, bool]]:
    start = Fraction(0)
    for bar in bars:
        late = _grace_lengths(bar) if graces and bar.graces else {}
        passed: Counter[Fraction] = Counter()
        for grace in bar.graces if late else ():
            length = late.get(grace.onset)
            if length and grace.midi is not None:
                yield start + grace.onset + passed[grace.onset] * length, grace.midi, length, False
                passed[grace.onset] += 1
        for note in bar.notes:
            if note.midi is not None:
                taken = late.get(note.onset, ZERO) * passed[note.onset]
                yield start + note.onset + taken, note.midi, note.duration - taken, note.tie
        start += bar.duration


def _grace_lengths(bar: Bar) -> dict[Fraction, Fraction]:
    """Return how long each grace note of an onset sounds, where there is a note to take the time from."""
    counts = Counter(grace.onset for grace in bar.graces)
    shortest: dict[Fraction, Fraction] = {}
    for note in bar.notes:
        if note.midi is not None and note.onset in counts:
            shortest[note.onset] = min(note.duration, shortest.get(note.onset, note.duration))
    return {onset: min(_GRACE, shortest[onset] / 2 / counts[onset]) for onset in shortest}


def to_midi(
    tune: Tune,
    path: Path,
    repeats: bool = True,
    quarters_a_minute: float | Fraction | None = None,
    graces: bool = True,
) -> None:
    """Write a tune as a MIDI file of one track a voice, with its changes of tempo.

    Args:
        tune: the tune.
        path: of the file.
        repeats: play repeats, the order of parts and `D.C.`; else each bar once.
        quarters_a_minute: the tempo at the beginning, in place of the tune's; later ones move with it.
        graces: sound grace notes too.

    Raises:
        UserError: mido is not installed, the tune has no note or is too long, or its tempo cannot be said.
    """
    mido = library("mido")
    file = mido.MidiFile(ticks_per_beat=TICKS, type=1)
    orders = {name: order.bars for name, order in playing_order(tune).items()} if repeats else tune.voices
    voices = [sounding(bars, graces) for bars in orders.values()]
    if not any(voices):
        raise UserError("the tune has no note to sound")
    begin = None if quarters_a_minute is None else Fraction(quarters_a_minute)
    file.tracks.append(_conductor(mido, tune, clock(tune, orders, begin)))
    file.tracks += [_track(mido, notes) for notes in voices]
    file.save(str(path))


def _conductor(mido: Any, tune: Tune, timing: Clock) -> Any:
    track = mido.MidiTrack()
    meter = tune.meter
    if meter and meter.unit & (meter.unit - 1) == 0 and meter.beats < 256:
        track.append(mido.MetaMessage("time_signature", numerator=meter.beats, denominator=meter.unit))
    now = 0
    for onset, tempo in timing.changes:
        if tempo < SLOWEST:
            raise UserError(f"the tempo is {float(tempo):g} quarter notes a minute: a MIDI file cannot say it")
        track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(float(tempo)), time=_ticks(onset) - now))
        now = _ticks(onset)
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
    library("music21")
    from musician.music.sound.score import score

    with TemporaryDirectory() as folder:
        written = Path(score(tune).write("musicxml", fp=str(Path(folder) / "score.musicxml")))
        path.write_bytes(written.read_bytes())


def library(name: str) -> Any:
    """Return a module of the extra `music`; raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed: pip install 'musician[music]'") from error
