"""Transposition by editing: keys, notes and chord symbols move, all else stays to the character.

Notes move by one interval with its spelling, so an accidental is written exactly where one was, and the way back gives
the text that was there.
"""

import re
from collections.abc import Iterator
from itertools import chain

from musician.music.abc.elements import Element, Note, Tune
from musician.music.abc.key import KEY_TONIC
from musician.music.abc.pitch import ACCIDENTALS, ALTERATIONS, Interval, Pitch, named_pitch, staff_place
from musician.music.abc.reader import parse_tune
from musician.music.edit.spans import Edit, apply
from musician.runtime.errors import UserError

_CHORD_SYMBOL = re.compile(r"([A-G])([#b]{0,2})([^/\s]*)(?:/([A-G])([#b]{0,2}))?", re.ASCII)
_EXPLICIT = re.compile(r"(\^\^?|__?|=)([A-Ga-g])(?=\s|$)", re.ASCII)
_TONIC_NAME = re.compile(r"[A-G][#b]?", re.ASCII)
_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MOST_SHARPS = 7
_REPAIRS = 4
"""How often at most the result is read again; each round writes what the one before changed the meaning of."""


def transpose(tune: Tune, tonic: str, octaves: int = 0) -> str:
    """Return the tune's text with its key on another tonic (`D`, `Bb`, `F#`), moved the shorter way, plus octaves.

    Six semitones go up. Inline keys and chord symbols move along. A note that the interval would give three sharps or
    flats is written on a neighbouring letter.

    Raises:
        UserError: `tonic` names none, the tune's key has none, or the new signature would have over seven accidentals.
    """
    if not _TONIC_NAME.fullmatch(tonic):
        raise UserError(f"no tonic: '{tonic}'; write a letter A to G with # or b after it, as Bb")
    if not tune.key.tonic:
        raise UserError("the tune's key names no tonic, so it cannot move to another: give semitones instead")
    return _moved(tune, _shortest(named_pitch(tune.key.tonic), named_pitch(tonic), octaves), tonic)


def transpose_by(tune: Tune, semitones: int) -> str:
    """Return the tune's text so many semitones higher, in the key with the fewest accidentals (F sharp before G flat).

    Raises:
        UserError: as `transpose`.
    """
    if not tune.key.tonic:
        return _moved(tune, _interval(named_pitch("C"), semitones), "")
    mode = tune.key.sharps - named_pitch(tune.key.tonic).fifths
    names = sorted({*_TONICS, "C#", "D#", "G#", "A#", "Gb", "Cb"}, key=lambda name: _cost(name, mode))
    home = named_pitch(tune.key.tonic)
    wanted = (home.midi + semitones) % 12
    name = next(each for each in names if named_pitch(each).midi % 12 == wanted)
    return _moved(tune, _between(home, named_pitch(name), semitones), name)


def _cost(name: str, mode: int) -> tuple[int, bool]:
    sharps = named_pitch(name).fifths + mode
    return abs(sharps), sharps < 0


def _shortest(home: Pitch, goal: Pitch, octaves: int) -> Interval:
    semitones = (goal.midi - home.midi) % 12
    semitones -= 12 if semitones > 6 else 0
    return _between(home, goal, semitones + 12 * octaves)


def _between(home: Pitch, goal: Pitch, semitones: int) -> Interval:
    """Return the interval of so many semitones between two pitches' names."""
    octaves = (semitones - (goal.midi - home.midi)) // 12
    return Interval(goal.place - home.place + 7 * octaves, semitones)


def _interval(home: Pitch, semitones: int) -> Interval:
    goal = named_pitch(_TONICS[(home.midi + semitones) % 12])
    return _between(home, goal, semitones)


def _moved(tune: Tune, interval: Interval, tonic: str) -> str:
    if tonic and abs(named_pitch(tonic).fifths + tune.key.sharps - named_pitch(tune.key.tonic).fifths) > _MOST_SHARPS:
        raise UserError(f"{tonic} {tune.key.mode} has more than {_MOST_SHARPS} sharps or flats: choose another tonic")
    edits = chain(_note_edits(tune, interval), _element_edits(tune, interval))
    text = apply(tune.text, edits)
    for _ in range(_REPAIRS):
        repairs = list(_repairs(text, tune, interval))
        if not repairs:
            break
        text = apply(text, repairs)
    return text


def _heads(tune: Tune) -> list[Note]:
    """Return all notes and grace notes that sound, as they stand in the text."""
    every = (note for bar in tune.bars for note in chain(bar.notes, bar.graces) if note.midi is not None)
    return sorted(every, key=lambda note: note.start)


def _repairs(text: str, tune: Tune, interval: Interval) -> Iterator[Edit]:
    """Write accidentals where the signature does not give them: no tonic moved, or a note changed its letter."""
    for before, after in zip(_heads(tune), _heads(parse_tune(text)), strict=True):
        goal = Pitch(before.place, before.alter).above(interval)
        if after.midi != goal.midi and 0 <= goal.midi <= 127:
            goal = respelled(goal) if abs(goal.alter) > 2 else goal
            shift = after.place - _staff_place(text, after)
            written = Pitch(goal.place - shift, goal.alter)
            yield Edit(after.start, after.pitch_end, ACCIDENTALS[goal.alter] + written.abc_letter)


def _staff_place(text: str, note: Note) -> int:
    """Return the staff place of a note's letter and octave marks alone, without what a field moves it by."""
    written = text[note.start : note.pitch_end].lstrip("^_=")
    return staff_place(written[0], written[1:])


def _note_edits(tune: Tune, interval: Interval) -> Iterator[Edit]:
    """Write each note's letter and octave anew, and its accidental where one was written."""
    for note in _heads(tune):
        accidental = tune.text[note.start : note.pitch_end].rstrip("ABCDEFGabcdefg',")
        place = _staff_place(tune.text, note)
        moved = Pitch(place, ALTERATIONS[accidental] if accidental else note.alter).above(interval)
        if accidental and abs(moved.alter) > 2:
            moved = respelled(moved)
        mark = ACCIDENTALS[moved.alter] if accidental else ""
        apart = " " if _before_colon(tune.text, note) else ""
        yield Edit(note.start, note.pitch_end, mark + moved.abc_letter + apart)


def _before_colon(text: str, note: Note) -> bool:
    """Whether a note begins a line and a colon follows it: as `c:1` it is music, as `B:1` it would be a field."""
    return text[note.pitch_end : note.pitch_end + 1] == ":" and (note.start == 0 or text[note.start - 1] in "\r\n")


def respelled(pitch: Pitch) -> Pitch:
    """Return the pitch on the neighbouring letter that needs fewer accidentals."""
    place = pitch.place + (1 if pitch.alter > 0 else -1)
    return Pitch(place, pitch.midi - Pitch(place).midi)


def _element_edits(tune: Tune, interval: Interval) -> Iterator[Edit]:
    for element in tune.elements:
        if element.kind == "field" and element.text.startswith("K:"):
            yield from _key_edits(element, interval)
        elif element.kind == "quoted" and element.text[:1] not in "^_<>@":
            yield from _chord_edits(element, interval)


def _key_edits(element: Element, interval: Interval) -> Iterator[Edit]:
    value = element.text[2:]
    found = KEY_TONIC.match(value)
    if found and value.strip()[:4].lower() != "none" and value.strip()[:2] not in ("HP", "Hp"):
        start = element.start + 2
        name = _name_above(found["tonic"], interval)
        yield Edit(start + found.start("tonic"), start + found.end("tonic"), name)
    for accidental in _EXPLICIT.finditer(value):
        moved = named_pitch(accidental[2].upper()).altered(ALTERATIONS[accidental[1]]).above(interval)
        letter = moved.letter if accidental[2].isupper() else moved.letter.lower()
        start = element.start + 2 + accidental.start()
        yield Edit(start, start + len(accidental[0]), ACCIDENTALS[max(-2, min(2, moved.alter))] + letter)


def _chord_edits(element: Element, interval: Interval) -> Iterator[Edit]:
    found = _CHORD_SYMBOL.fullmatch(element.text.strip())
    if found is None or not element.text.strip():
        return
    offset = element.start + element.text.index(found[0])
    for letter, marks in ((1, 2), (4, 5)):
        if found[letter]:
            name = _name_above(found[letter] + found[marks], interval)
            yield Edit(offset + found.start(letter), offset + found.end(marks), name)


def _name_above(name: str, interval: Interval) -> str:
    moved = named_pitch(name).above(interval)
    return (moved if abs(moved.alter) < 2 else respelled(moved)).name
