"""The order in which the sections of a tune sound, where it is beyond doubt."""

from __future__ import annotations

import re

from musician.music.abc.elements import Bar, Tune

_OTHER_ORDER = re.compile(r"^[PV]:|\[[PV]:|D\.? ?[CS]\b|\bfine\b|[Ss]egno|[Cc]oda", re.MULTILINE | re.IGNORECASE)
_SECTION_END = re.compile(r":|\|\||\]")


def sections(tune: Tune) -> str | None:
    """Return the order in which a tune's sections sound, as `AABB`: sections of the same notes share a letter.

    Sections end at double bar lines and repeat signs; one whose repeat sign stands at its end counts twice. None where
    that is in doubt: endings that differ, an order of parts or da capo, a repeat that opens and does not close, fewer
    than two sections or more than six, one of fewer than four bars.
    """
    parts = _parts(tune.bars)
    if not 2 <= len(parts) <= 6 or min(len(part) for part in parts) < 4 or _in_doubt(tune, parts):
        return None
    letters: dict[tuple[object, ...], str] = {}
    form = ""
    for part in parts:
        notes = tuple(note for bar in part for note in bar.notes)
        letter = letters.setdefault(notes, "ABCDEF"[len(letters)])
        form += letter * (2 if part[-1].barline.startswith(":") else 1)
    return form


def _in_doubt(tune: Tune, parts: list[list[Bar]]) -> bool:
    """Whether the sections may sound in another order than their bar lines say."""
    ends = [(part[0].opening.endswith(":"), part[-1].barline) for part in parts]
    return (
        any(bar.ending for bar in tune.bars)
        or bool(tune.field("P"))
        or _OTHER_ORDER.search(tune.body) is not None
        or any(opens and not closing.startswith(":") for opens, closing in ends)
        or any(":" in closing.strip(":") for _, closing in ends)
    )


def _parts(bars: tuple[Bar, ...]) -> list[list[Bar]]:
    parts: list[list[Bar]] = [[]]
    for bar in bars:
        parts[-1].append(bar)
        if _SECTION_END.search(bar.barline):
            parts.append([])
    return [part for part in parts if part]
