"""Tasks in which music is written: from a description, a beginning, a form, chords, a style."""

from __future__ import annotations

import random
import re

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import form_letters, form_term, motif_notes, section_bars, sounding_form
from musician.music.tasks import wordings
from musician.music.tasks.written import frame, header, tidy, written, written_notes

_FEWEST_BARS = 4
_FEWEST_CHORDS = 4
_LETTER = re.compile("[A-Z]'?")


def text_to_abc(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the tune that a description names."""
    if not tune.key.tonic:
        return None
    facts = [
        ("title", tune.field("T")),
        ("rhythm", tune.field("R")),
        ("meter", str(tune.meter or "free")),
        ("unit note length", str(tune.unit)),
        ("key", tune.key.name),
    ]
    described = "\n".join(f"{name}: {value}" for name, value in facts if value)
    return f"{rng.choice(wordings.TEXT_TO_ABC)}\n{described}", tidy(tune)


def continuation(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the second half; only where the halves, written bar by bar, read as the tune does."""
    half = len(tune.bars) // 2
    if half < 4:
        return None
    first = f"{header(tune)}\n{f'{tune.bars[0].opening} {written(tune.bars[:half])}'.strip()}"
    second = written(tune.bars[half:])
    if tuple(parse_tune(f"{first}\n{second}").notes) != tuple(tune.notes):
        return None
    return f"{rng.choice(wordings.CONTINUATION)}\n{first}", second


def form_to_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune of a form that begins with given bars."""
    letters = sounding_form(tune)
    if not letters or not tune.key.tonic:
        return None
    opening = f"{frame(tune)}\n{written(tune.bars[:2])}"
    return f"{rng.choice(wordings.FORM_TO_TUNE)}\nForm: {letters}\nMotif:\n{opening}", tidy(tune)


def terms_to_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune of a form named by its term, built on a motif that returns in its first section (appendix D)."""
    letters, parts = form_letters(tune), section_bars(tune)
    found = written_notes(tune, motif_notes(parts[0])) if parts else ""
    if not letters or not found or not tune.key.tonic:
        return None
    given = f"Form: {form_term(letters)}\nMotif:\n{frame(tune)}\n{found}"
    return f"{rng.choice(wordings.TERMS_TO_TUNE)}\n{given}", tidy(tune)


def terms_only(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune of a form named by its term."""
    letters = form_letters(tune)
    return (f"{rng.choice(wordings.TERMS_ONLY)}\nForm: {form_term(letters)}", tidy(tune)) if letters else None


def style(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune as by its composer (C:), or as from its origin (O:)."""
    whose = tune.field("C") or tune.field("O")
    if not whose or len(whose) > 60:
        return None
    return f"{rng.choice(wordings.STYLE)}\n{'Composer' if tune.field('C') else 'Origin'}: {whose}", tidy(tune)


def variation(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a variation of a section that the tune itself varies."""
    parts, names = section_bars(tune), _LETTER.findall(form_letters(tune))
    for place, name in enumerate(names):
        if name.endswith("'") and name[0] in names[:place] and min(map(len, parts)) >= _FEWEST_BARS:
            first = parts[names.index(name[0])]
            prompt = f"{rng.choice(wordings.VARIATION)}\n{frame(tune)}\n{written(tuple(first))}"
            return prompt, written(tuple(parts[place]))
    return None


def chord_symbols(tune: Tune) -> list[str]:
    """Return the chord symbols of a tune in order; annotations such as `^slowly` are none."""
    return [each.text for each in tune.elements if each.kind == "quoted" and each.text[:1] in "ABCDEFG"]


def chords_to_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune over given chords; only for a tune that has its own."""
    chords = chord_symbols(tune)
    if len(chords) < _FEWEST_CHORDS:
        return None
    asked = ", ".join(chords)
    return f"{rng.choice(wordings.CHORDS_TO_TUNE)}\n{asked}", tidy(tune)
