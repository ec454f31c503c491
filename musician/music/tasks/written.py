"""Tunes and bars as tasks show them."""

from __future__ import annotations

from collections.abc import Iterable

from musician.music.abc.elements import Bar, Note, Tune


def tidy(tune: Tune) -> str:
    """Return the tune with the fields that say how it sounds (`X T R M L K`), its body free of comment lines."""
    return f"{header(tune)}\n{_body(tune)}"


def header(tune: Tune) -> str:
    """Return the fields of a tidy tune."""
    fields = [("X", "1"), *((name, tune.field(name)) for name in "TRMLK")]
    return "\n".join(f"{name}:{value}" for name, value in fields if value)


def _body(tune: Tune) -> str:
    return "\n".join(line.rstrip() for line in tune.body.split("\n") if not line.startswith("%") and line.strip())


def written(bars: tuple[Bar, ...]) -> str:
    """Return bars with the bar line that closes each, four to a line; an ending's number follows its bar line."""
    words = [f"{'[' + bar.ending + ' ' if bar.ending else ''}{bar.text} {bar.barline}".strip() for bar in bars]
    return "\n".join(" ".join(words[start : start + 4]) for start in range(0, len(words), 4))


def frame(tune: Tune) -> str:
    """Return the fields without which a few bars of a tune cannot be read."""
    return f"L:{tune.unit}\nM:{tune.meter or 'none'}\nK:{tune.key.abc}"


def written_notes(tune: Tune, notes: Iterable[Note]) -> str:
    """Return notes as the tune writes them, side by side."""
    return "".join(tune.text[note.start : note.end] for note in notes)
