"""Conversations that go on about one tune: it is asked for, changed, and talked about."""

from __future__ import annotations

import random

from musician.errors import UserError
from musician.music.abc import Tune, parse_tune
from musician.music.form import form_letters, form_term
from musician.music.tasks import editing, wordings, writing
from musician.music.tasks.reading import describe

#: A turn's instruction and answer, and the tune that stands after it.
Turn = tuple[str, str, Tune]


def make_conversation(tune_text: str, seed: int, turns: int = 4) -> list[tuple[str, str]]:
    """Chain up to `turns` instructions and answers about one tune; each answer is computed from the tune as it stands.

    The first asks for the tune from its description; what follows transposes it, rewrites it with another unit length,
    asks for its form, its key or a description of it, nothing twice. Empty for a text that gives no such tune.
    """
    rng = random.Random(f"{seed}:conversation:{tune_text}")
    source = parse_tune(tune_text)
    begun = writing.text_to_abc(source, rng) if any(note.midi is not None for note in source.notes) else None
    if begun is None:
        return []
    said = [begun]
    tune = parse_tune(begun[1])
    for step in rng.sample(_STEPS, len(_STEPS)):
        if len(said) == turns:
            break
        turn = step(tune, rng)
        if turn:
            said.append(turn[:2])
            tune = turn[2]
    return said


def _transpose(tune: Tune, rng: random.Random) -> Turn | None:
    found = editing.to_another_key(tune, rng)
    return found and (rng.choice(wordings.NOW_TRANSPOSE).format(key=found[0]), found[1], parse_tune(found[1]))


def _change_unit(tune: Tune, rng: random.Random) -> Turn | None:
    unit = rng.choice([unit for unit in editing.UNITS if unit != tune.unit])
    try:
        text = editing.set_unit(tune, unit)
    except UserError:
        return None
    return rng.choice(wordings.NOW_UNIT).format(unit=unit), text, parse_tune(text)


def _name_form(tune: Tune, rng: random.Random) -> Turn | None:
    letters = form_letters(tune)
    return (rng.choice(wordings.NOW_FORM), f"{letters}: {form_term(letters)}", tune) if letters else None


def _name_key(tune: Tune, rng: random.Random) -> Turn | None:
    return (rng.choice(wordings.NOW_KEY), tune.key.name, tune) if tune.key.plain else None


def _describe(tune: Tune, rng: random.Random) -> Turn | None:
    told = describe(tune)
    return (rng.choice(wordings.NOW_DESCRIBE), told, tune) if told else None


_STEPS = [_transpose, _change_unit, _name_form, _name_key, _describe]
