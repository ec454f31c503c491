"""Which split a row belongs to: decided by its family alone, so relatives are never on both sides."""

from __future__ import annotations

import hashlib
import re

from musician.data.rendering.conversation import Document, Row
from musician.music.analysis.family import fingerprint

#: A line that only an ABC header has.
_ABC_KEY_FIELD = re.compile(r"^K:", re.MULTILINE)


def family_of(row: Row) -> str:
    """Family key of a row that came without one: of its melody where it holds ABC, else of its text.

    Whitespace and case do not count. Rows that share a family are exact repeats up to transposition, title and layout;
    wider families need the whole collection at once (`musician.music.analysis.family.families`).
    """
    text = text_of(row)
    if _ABC_KEY_FIELD.search(text):
        return fingerprint(text)
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:32]


def text_of(row: Row) -> str:
    """All text of a row; the turns of a conversation are joined by line breaks."""
    return row.text if isinstance(row, Document) else "\n".join(message.content for message in row.messages)


def is_held_out(family: str, fraction: float, seed: int = 0) -> bool:
    """Whether a family belongs to the validation split; about `fraction` of all families do.

    A function of its arguments only: data sets made from the same tunes at different times agree.
    """
    digest = hashlib.sha256(f"{seed}:{family}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
