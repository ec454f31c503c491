"""Edits of a tune's text by spans: what is not changed stays as it was written, to the character."""

from collections.abc import Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """Put `text` in place of what stands at `start` to `end`."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made; they may come in any order and must not overlap."""
    pieces: list[str] = []
    place = 0
    for start, end, new in sorted(edits):
        assert place <= start <= end, "edits overlap"
        pieces += (text[place:start], new)
        place = end
    return "".join([*pieces, text[place:]])
