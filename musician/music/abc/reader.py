"""A tolerant reader of ABC notation: any text gives a tune, in time linear in its length.

Written from the ABC standard 2.1 (abcnotation.com). What it cannot make sense of it passes over, as players do, and
keeps as `unread` elements; numbers are bounded (see `musician.music.abc.meter`), so no text costs unbounded arithmetic.
"""

import re
from itertools import pairwise

from musician.music.abc.body import BodyReader
from musician.music.abc.elements import Element, Tune
from musician.music.abc.key import parse_key
from musician.music.abc.lexer import BODY_FIELD, code_end, lines
from musician.music.abc.meter import default_unit, parse_meter, parse_unit

_START = re.compile(r"(?:\A|(?<=[\n\r]))X:")
_HEADER_FIELD = re.compile(r"([A-Za-z+]):(?![|:])", re.ASCII)
Span = tuple[int, int]


def split_tunes(text: str) -> list[str]:
    """Return the tunes of a text: each from an `X:` at the start of a line up to a blank line below its music.

    Line ends become `\\n`. Text before, between and after tunes is left out, as the standard has it.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [_only_tune(text[start:end]) for start, end in tune_spans(text)]


def tune_spans(text: str) -> list[tuple[int, int]]:
    """Return where each tune begins, with an `X:` at the start of a line, and where the next does or the text ends."""
    return list(pairwise([*(found.start() for found in _START.finditer(text)), len(text)]))


def parse_tune(text: str) -> Tune:
    """Read the first tune of a text, or the whole text as a fragment when no line begins with `X:`.

    A fragment may begin with fields, as `K:D` above a few bars. Never raises.
    """
    found = _START.search(text)
    if found:
        following = _START.search(text, found.end())
        text = text[found.start() : following.start() if following else len(text)]
    header, body = _divide(text)
    end = body[-1][1] if body else header[-1][1] if header else 0
    return _tune(text[:end], header, body)


def _only_tune(text: str) -> str:
    header, body = _divide(text)
    return "\n".join(text[start:end] for start, end in header + body).strip()


def _divide(text: str) -> tuple[list[Span], list[Span]]:
    """Part the lines into header, up to `K:` or the first line of music, and body, up to a blank line below music."""
    every = list(lines(text, 0, len(text)))
    border = _border(text, every)
    body: list[Span] = []
    for start, end in every[border:]:
        if text[start:end].strip():
            body.append((start, end))
        elif body and _is_music(text, *body[-1]):
            break
    return every[:border], body


def _border(text: str, every: list[Span]) -> int:
    for place, (start, end) in enumerate(every):
        if text.startswith("K:", start) and not text.startswith(("K:|", "K::"), start):
            return place + 1
        if not text.startswith("%", start) and not _HEADER_FIELD.match(text, start, end) and text[start:end].strip():
            return place
    return len(every)


def _is_music(text: str, start: int, end: int) -> bool:
    return not text.startswith("%", start) and (
        text.startswith(("w:", "W:"), start) or not BODY_FIELD.match(text, start, end)
    )


def _tune(text: str, header: list[Span], body: list[Span]) -> Tune:
    """Put the header's fields into force and read the body; of several `M:` or `L:` the last counts."""
    written = [_field(text, start, end) for start, end in header if _HEADER_FIELD.match(text, start, end)]
    fields = tuple((element.text[0], element.text[2:].strip()) for element in written)
    values = dict(fields)
    meter = parse_meter(values.get("M", ""))
    unit = parse_unit(values.get("L", "")) or default_unit(meter)
    key = parse_key(values.get("K", ""))
    reader = BodyReader(text, key, meter, unit)
    for start, end in header:
        if text.startswith(("%%", "I:"), start):
            reader.instruct(text[start + 2 : end])
    reader.shift(values.get("K", ""))
    reader.read(body)
    start = body[0][0] if body else len(text)
    return Tune(text, fields, (*written, *reader.elements), tuple(reader.bars), meter, unit, key, start)


def _field(text: str, start: int, end: int) -> Element:
    end = code_end(text, start, end)
    return Element("field", start, end, text[start:end])
