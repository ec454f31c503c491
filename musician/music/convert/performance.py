"""What a MIDI file holds: notes as they were played, tempo, meters and key, read by mido (the extra `music`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import Any, NamedTuple

from musician.music.abc.meter import FINEST, Meter
from musician.music.sound.sounding import MOST_NOTES, MOST_TIME, library
from musician.runtime.errors import UserError

_PERCUSSION = 9
_DEFAULT_TEMPO = 500_000


class Played(NamedTuple):
    """A note as played: `onset` and `offset` in ticks, `midi` its pitch, `part` the track and channel it came on."""

    onset: int
    offset: int
    midi: int
    part: tuple[int, int]


@dataclass(frozen=True)
class Performance:
    """A MIDI file's music.

    Attributes:
        notes: by onset; percussion (channel 10) left out.
        ticks: ticks of a quarter note.
        quarter: seconds of a quarter note by the first tempo; 0.5 where the file names none.
        meter: the first time signature, None where there is none or it changes later.
        key: the first key signature as mido names it (`Bb`, `F#m`), or empty.
        percussion: notes that were left out.
    """

    notes: tuple[Played, ...]
    ticks: int
    quarter: float
    meter: Meter | None
    key: str
    percussion: int


def read_midi(data: bytes) -> Performance:
    """Read the bytes of a MIDI file of type 0 or 1.

    Raises:
        UserError: mido is not installed; no MIDI, or of a kind without beats; no note, or too much of it.
    """
    file = _parsed(data)
    if file.type == 2 or file.ticks_per_beat <= 0:
        raise UserError("the MIDI file has no common beat (type 2, or time in SMPTE frames)")
    every = list(_notes(file))
    notes = sorted(note for note in every if note.part[1] != _PERCUSSION)
    if not notes:
        raise UserError("the MIDI file has no note")
    if len(notes) > MOST_NOTES or notes[-1].offset > 4 * MOST_TIME * file.ticks_per_beat:
        raise UserError(f"the MIDI file has over {MOST_NOTES} notes or {MOST_TIME} whole notes: too long to write")
    tempo = next((each.tempo for each in _meta(file, "set_tempo")), _DEFAULT_TEMPO)
    key = next((each.key for each in _meta(file, "key_signature")), "")
    return Performance(
        tuple(notes), file.ticks_per_beat, max(tempo, 1) / 1e6, _meter(file), key, len(every) - len(notes)
    )


def _parsed(data: bytes) -> Any:
    mido = library("mido")
    try:
        return mido.MidiFile(file=BytesIO(data), clip=True)
    except Exception as error:  # mido raises whatever its parsing runs into
        raise UserError(f"no MIDI file: {str(error) or type(error).__name__}") from error


def _meta(file: Any, kind: str) -> Iterator[Any]:
    return (event for track in file.tracks for event in track if event.type == kind)


def _meter(file: Any) -> Meter | None:
    """Return the one time signature of a file, or None."""
    found = {Meter(each.numerator, each.denominator) for each in _meta(file, "time_signature")}
    usable = [meter for meter in found if meter.beats and meter.unit <= FINEST]
    return usable[0] if len(found) == len(usable) == 1 else None


def _notes(file: Any) -> Iterator[Played]:
    """Pair each note's start with the next end of its pitch; a note without one lasts to the end of its track."""
    for number, track in enumerate(file.tracks):
        now = 0
        open_notes: dict[tuple[int, int], list[int]] = {}
        for event in track:
            now += event.time
            if event.type not in ("note_on", "note_off"):
                continue
            sounding = open_notes.setdefault((event.channel, event.note), [])
            if event.type == "note_on" and event.velocity:
                sounding.append(now)
            elif sounding:
                yield from _ended(sounding.pop(0), now, event.note, (number, event.channel))
        for (channel, midi), starts in open_notes.items():
            for start in starts:
                yield from _ended(start, now, midi, (number, channel))


def _ended(onset: int, offset: int, midi: int, part: tuple[int, int]) -> Iterator[Played]:
    if offset > onset:
        yield Played(onset, offset, midi, part)


def by_part(notes: Iterable[Played]) -> dict[tuple[int, int], list[Played]]:
    """Return the notes of each part in the order given."""
    ordered = sorted(notes, key=lambda note: note.part)
    return {part: list(group) for part, group in groupby(ordered, key=lambda note: note.part)}
