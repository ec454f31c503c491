"""Other ways to write a tune: another unit length or meter, without chords or words, or in one canonical spelling."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain

from musician.music.abc.elements import Bar, Element, Tune
from musician.music.abc.lexer import BODY_FIELD, TOKEN, code_end, lines, multiple, write_length
from musician.music.abc.meter import Meter, parse_unit
from musician.music.abc.pitch import ACCIDENTALS
from musician.music.abc.reader import parse_tune
from musician.music.edit.spans import Edit, apply
from musician.runtime.errors import UserError

STRIPPED = ("chords", "annotations", "decorations", "graces", "lyrics", "comments")
_ORDER = "XTCOASHRPMLQV"
_NAMES = {"decoration": "decorations", "grace": "graces"}
_LYRICS = ("w:", "W:")


def set_unit(tune: Tune, unit: Fraction) -> str:
    """Return the tune's text written with another unit length throughout (`L:1/16`); the music stays as it is.

    Raises:
        UserError: a note becomes too fine to write.
    """
    units = _Units(tune)
    edits = [Edit(each.start, each.end, f"L:{unit}") for each in tune.elements if _is_field(each, "L")]
    for bar in tune.bars:
        for note in chain(bar.notes, bar.graces):
            if tune.text[note.start] not in "ZX":
                length = multiple(tune.text[note.pitch_end : note.end]) * units.at(note.start) / unit
                edits.append(Edit(note.pitch_end, note.end, write_length(length)))
    return apply(tune.text, edits + _header_line(tune, "L", str(unit)))


class _Units:
    """The unit length in force at each place of a tune's text."""

    def __init__(self, tune: Tune):
        self.starts, self.values = [0], [tune.unit]
        voice, units = "", {"": tune.unit}
        for element in tune.elements:
            if element.kind != "field" or element.start < tune.body_start:
                continue
            if element.text[0] == "V":
                voice = (element.text[2:].split(maxsplit=1) or [""])[0][:40]
            elif element.text[0] == "L":
                units[voice] = parse_unit(element.text[2:]) or units.get(voice, units[""])
            else:
                continue
            self.starts.append(element.start)
            self.values.append(units.setdefault(voice, units[""]))

    def at(self, place: int) -> Fraction:
        """Return the unit length at a place."""
        return self.values[bisect_right(self.starts, place) - 1]


def _is_field(element: Element, name: str) -> bool:
    return element.kind == "field" and element.text.startswith(f"{name}:")


def _header_line(tune: Tune, name: str, value: str) -> list[Edit]:
    """Return the edit that adds a field above `K:`, or above the music, where the header has none of that letter."""
    if any(letter == name for letter, _ in tune.fields):
        return []
    keys = [each.start for each in tune.elements if _is_field(each, "K") and each.start < tune.body_start]
    place = keys[-1] if keys else tune.body_start
    return [Edit(place, place, f"{name}:{value}\n")]


def set_meter(tune: Tune, meter: Meter) -> str:
    """Return the tune's text in another meter; every note keeps its length.

    Where full bars last as long as before, only `M:` changes; where they last a whole number of times as long as new
    ones, bar lines are put into them.

    Raises:
        UserError: the tune is free or changes meter, the bars do not divide so, or a note crosses a new bar line.
    """
    if tune.meter is None or any(bar.meter != tune.meter for bar in tune.bars):
        raise UserError("the meter can be changed only of a tune in one meter throughout")
    times = tune.meter.duration / meter.duration
    if times.denominator != 1:
        raise UserError(f"bars of {tune.meter} do not divide into bars of {meter}")
    edits = [Edit(each.start, each.end, f"M:{meter}") for each in tune.elements if _is_field(each, "M")]
    for bar in tune.bars if times > 1 else ():
        edits += _bar_lines(bar, meter.duration)
    text = apply(tune.text, edits + _header_line(tune, "M", str(meter)) + _header_line(tune, "L", str(tune.unit)))
    return apply(text, _accidentals(text, tune))


def _accidentals(text: str, tune: Tune) -> Iterator[Edit]:
    """Write the accidentals that held through a bar at the notes which a new bar line takes them from."""
    for before, after in zip(tune.notes, parse_tune(text).notes, strict=True):
        if before.midi != after.midi:
            yield Edit(after.start, after.start, ACCIDENTALS[before.alter])


def _bar_lines(bar: Bar, length: Fraction) -> Iterator[Edit]:
    """Yield bar lines for a bar every `length` from its end, so that a pick-up stays at its start."""
    onsets = {note.onset: note.start for note in reversed(bar.notes) if not note.stacked}
    place = bar.duration - length
    while place > 0:
        if place not in onsets:
            raise UserError(f"a note of the bar '{bar.text}' crosses the bar line a bar of {length} needs")
        if any(note.stacked and note.onset == place for note in bar.notes) or "(" in bar.text:
            raise UserError(f"the bar '{bar.text}' has chords, overlays, tuplets or slurs: no bar line can be put in")
        yield Edit(onsets[place], onsets[place], "| ")
        place -= length


def strip(tune: Tune, *what: str) -> str:
    """Return the tune's text without some of `STRIPPED`; pitches and times stay.

    Raises:
        UserError: an unknown name.
    """
    unknown = set(what) - set(STRIPPED)
    if unknown:
        raise UserError(f"cannot strip {', '.join(sorted(unknown))}; there are: {', '.join(STRIPPED)}")
    return apply(tune.text, _joined(_removed(tune, set(what))))


def _joined(edits: Iterable[Edit]) -> list[Edit]:
    """Removals that lie in one another, or overlap in text that is no proper ABC, as one."""
    found: list[Edit] = []
    for edit in sorted(edits):
        if found and edit.start < found[-1].end:
            found[-1] = Edit(found[-1].start, max(edit.end, found[-1].end), "")
        else:
            found.append(edit)
    return found


def _removed(tune: Tune, what: set[str]) -> Iterator[Edit]:
    for element in tune.elements:
        if element.kind == "quoted":
            name = "annotations" if element.text[:1] in tuple("^_<>@") else "chords"
            if name in what:
                yield Edit(element.start - 1, element.end + 1, "")
        elif _NAMES.get(element.kind) in what:
            yield Edit(element.start, element.end, "")
    for start, end in lines(tune.text, tune.body_start, len(tune.text)):
        if "lyrics" in what and tune.text.startswith(_LYRICS, start):
            yield Edit(max(0, start - 1), end, "")
        elif (
            "comments" in what
            and (code := code_end(tune.text, start, end)) < end
            and tune.text[start : start + 2] != "%%"
        ):
            yield Edit(code if code > start else max(0, start - 1), end, "")


def canonical(tune: Tune) -> str:
    """Return the tune in one spelling, alike for all that differ in white space, comments and ways to write a length.

    Fields come one a line in the standard's order with `X:1` and `L:` written; lengths are shortest (`C/` is `C/2`,
    `C2/2` is `C`), `+f+` is `!f!`, spaces are single (they part beams, so they count), bar lines stand between spaces.
    Canonical text is its own canonical form.
    """
    body = [_canonical_line(tune.text, start, end) for start, end in lines(tune.text, tune.body_start, len(tune.text))]
    return "\n".join([*_canonical_header(tune), *(line for line in body if line)])


def _canonical_header(tune: Tune) -> list[str]:
    fields = [each for each in tune.fields if each[0] not in "XKML"]
    fields += [("X", "1"), ("L", str(tune.unit)), ("M", str(tune.meter or "none")), ("K", tune.field("K", "C"))]
    places = {letter: place for place, letter in enumerate(_ORDER)}
    ordered = sorted(fields, key=lambda each: 99 if each[0] == "K" else places.get(each[0], 50))
    return [_written_field(name, value) for name, value in ordered]


def _written_field(name: str, value: str) -> str:
    """Return a field's line; `I: ::` keeps its space, since `I::` would be music."""
    words = " ".join(value.split())
    return f"{name}: {words}" if words.startswith((":", "|")) else f"{name}:{words}"


def _canonical_line(text: str, start: int, end: int) -> str:
    if text.startswith("%", start):
        return text[start:end].rstrip() if text.startswith("%%", start) else ""
    end = code_end(text, start, end)
    if BODY_FIELD.match(text, start, end):
        return _written_field(text[start], text[start + 2 : end])
    written = "".join(_canonical_sign(found) for found in TOKEN.finditer(text, start, end))
    return " ".join(written.split())


def _canonical_sign(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "note":
        return f"{found['accidental'] or ''}{found['letter']}{found['marks']}{_length(found['length'])}{found['tie']}"
    if kind == "rest":
        return found["rest"][0] + _length(found["rest_length"])
    if kind in ("bar", "number"):
        return f" {found['bar']}{found['number'] or ''} "
    if kind == "chord":
        inner = re.sub(r"(?<=[A-Ga-g',])[0-9/]+", lambda length: _length(length[0]), found["inner"])
        return f"[{inner}]{_length(found['chord_length'])}{found['chord_tie']}"
    if kind == "decoration" and found[0].startswith("+"):
        return f"!{found[0][1:-1]}!"
    if kind == "unread":  # apart, or a stray `/` would become the length of the note before it
        return f" {found[0]} "
    return found[0]


def _length(length: str) -> str:
    return write_length(multiple(length))


def same_music(one: str, other: str) -> bool:
    """Whether two texts' first tunes have the same notes in the same bars."""
    return [bar.notes for bar in parse_tune(one).bars] == [bar.notes for bar in parse_tune(other).bars]
