"""A tolerant reader of ABC notation: any text gives a tune, in time linear in its length.

Written from the ABC standard 2.1 (abcnotation.com). What it cannot make sense of it passes over, as players do; numbers
are bounded (see `musician.music.meter`), so no text costs unbounded arithmetic.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from musician.music.body import BODY_FIELD, Bar, BodyReader, Note
from musician.music.key import Key, parse_key
from musician.music.meter import Meter, default_unit, parse_meter, parse_unit

__all__ = ["Bar", "Note", "Tune", "count_notes", "parse_tune", "split_tunes"]

_START = re.compile(r"^X:", re.MULTILINE)
_HEADER_FIELD = re.compile(r"([A-Za-z+]):(?![|:])(.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Tune:
    """One tune.

    `fields` are the header's lines as (letter, value) in order, comments stripped; `body` the text below the header;
    `meter` (None: free), `unit` (in whole notes) and `key` those in force where the body begins.
    """

    fields: tuple[tuple[str, str], ...]
    body: str
    bars: tuple[Bar, ...]
    meter: Meter | None
    unit: Fraction
    key: Key

    def field(self, name: str, default: str = "") -> str:
        """Return the value of the first header field of that letter."""
        return next((value for letter, value in self.fields if letter == name), default)

    @property
    def notes(self) -> Iterator[Note]:
        """All notes and rests in written order."""
        return (note for bar in self.bars for note in bar.notes)


def split_tunes(text: str) -> list[str]:
    """Return the tunes of a text: each from an `X:` at the start of a line up to a blank line below its music.

    Line ends become `\\n`. Text before, between and after tunes is left out, as the standard has it.
    """
    text = _unix(text)
    starts = [found.start() for found in _START.finditer(text)]
    return [_only_tune(text[start:end]) for start, end in pairwise([*starts, len(text)])]


def parse_tune(text: str) -> Tune:
    """Read the first tune of a text, or the whole text as a fragment when no line begins with `X:`.

    A fragment may begin with fields, as `K:D` above a few bars. Never raises.
    """
    found = _START.search(text)
    if found:
        rest = _START.search(text, found.end())
        text = text[found.start() : rest.start() if rest else len(text)]
    header, body = _divide(_unix(text).split("\n"))
    fields = tuple(_fields(header))
    return _tune(fields, body)


def count_notes(text: str) -> int:
    """Count the note heads that sound in a text's tunes (or in the fragment it is).

    Every note of a chord counts, and both ends of a tie; grace notes and rests do not.
    """
    tunes = split_tunes(text) or [text]
    return sum(note.midi is not None for tune in tunes for note in parse_tune(tune).notes)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _only_tune(text: str) -> str:
    header, body = _divide(text.split("\n"))
    return "\n".join([*header, *body]).strip()


def _divide(lines: list[str]) -> tuple[list[str], list[str]]:
    """Part the lines into header, up to `K:` or the first line of music, and body, up to a blank line."""
    border = _border(lines)
    body: list[str] = []
    for line in lines[border:]:
        if line.strip():
            body.append(line)
        elif any(_is_music(earlier) for earlier in body[-1:]):
            break
    return lines[:border], body


def _border(lines: list[str]) -> int:
    for place, line in enumerate(lines):
        if line.startswith("K:") and not line.startswith(("K:|", "K::")):
            return place + 1
        if line.strip() and not line.startswith("%") and not _HEADER_FIELD.match(line):
            return place
    return len(lines)


def _is_music(line: str) -> bool:
    return not line.startswith("%") and not (BODY_FIELD.match(line) and not line.startswith(("w:", "W:")))


def _fields(header: list[str]) -> Iterator[tuple[str, str]]:
    for line in header:
        found = _HEADER_FIELD.match(line)
        if found:
            yield found[1], found[2].partition("%")[0].strip()


def _tune(fields: tuple[tuple[str, str], ...], body: list[str]) -> Tune:
    """Put the header's fields into force and read the body; of several `M:` or `L:` the last counts."""
    values = dict(fields)
    meter = parse_meter(values.get("M", ""))
    unit = parse_unit(values.get("L", "")) or default_unit(meter)
    key = parse_key(values.get("K", ""))
    return Tune(fields, "\n".join(body), BodyReader(key, meter, unit).read(body), meter, unit, key)
