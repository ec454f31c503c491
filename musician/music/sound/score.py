"""A tune as a music21 score, built from what the reader read, not by music21's own reader."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from music21 import bar as bars21
from music21 import chord, clef, duration, key, metadata, meter, note, pitch, spanner, stream, tie

from musician.music.abc.elements import Bar, Note, Tune
from musician.music.abc.pitch import Pitch
from musician.music.abc.repeats import endings


def score(tune: Tune) -> stream.Score:
    """Return the score: one part a voice, one measure a bar; grace notes, words and decorations are left out."""
    whole = stream.Score()
    whole.metadata = metadata.Metadata(title=tune.field("T"), composer=tune.field("C"))
    for name, bars in tune.voices.items():
        whole.append(_part(name, bars))
    return whole


def _part(name: str, bars: Sequence[Bar]) -> stream.Part:
    part = stream.Part(id=name or "1")
    shown: tuple[object, object] = (None, None)
    held: set[int] = set()
    for number, bar in enumerate(bars, 1):
        measure = stream.Measure(number=number)
        if bar.key.sharps != shown[0]:
            measure.insert(0, key.KeySignature(max(-7, min(7, bar.key.sharps))))
        if bar.meter and bar.meter != shown[1]:
            measure.insert(0, meter.TimeSignature(str(bar.meter)))
        shown = (bar.key.sharps, bar.meter)
        for place, event in _events(bar, held):
            measure.insert(place, event)
        _repeat_signs(measure, bar)
        part.append(measure)
        if endings(bar.ending):
            part.insert(0, spanner.RepeatBracket(measure, number=min(endings(bar.ending))))
    part.getElementsByClass(stream.Measure)[0].insert(0, clef.bestClef(part, recurse=True))
    return part


def _events(bar: Bar, held: set[int]) -> Iterator[tuple[float, note.GeneralNote]]:
    """Yield the onset in quarters and the notes that begin there; notes of one onset and length are one chord.

    `held` are the MIDI numbers that ties hold; it is kept up to date.
    """
    ordered = sorted(bar.notes, key=lambda each: (each.onset, each.duration))
    for (onset, time), group in groupby(ordered, key=lambda each: (each.onset, each.duration)):
        every = list(group)
        heads = [_head(each, held) for each in every if each.midi is not None]
        event: note.GeneralNote = chord.Chord(heads) if len(heads) > 1 else heads[0] if heads else note.Rest()
        event.duration = duration.Duration(time * 4)
        yield float(onset * 4), event


def _head(each: Note, held: set[int]) -> note.Note:
    spelled = Pitch(each.place, each.alter)
    head = note.Note(pitch.Pitch(spelled.full_name.replace("b", "-")))
    assert each.midi is not None
    if each.midi in held:
        head.tie = tie.Tie("continue" if each.tie else "stop")
    elif each.tie:
        head.tie = tie.Tie("start")
    (held.add if each.tie else held.discard)(each.midi)
    return head


def _repeat_signs(measure: stream.Measure, bar: Bar) -> None:
    if bar.opening.endswith(":"):
        measure.leftBarline = bars21.Repeat(direction="start")
    if bar.barline.startswith(":"):
        measure.rightBarline = bars21.Repeat(direction="end")
    elif bar.barline in ("||", "|]"):
        measure.rightBarline = bars21.Barline("double" if bar.barline == "||" else "final")
