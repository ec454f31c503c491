"""Conversations that go on about one tune: it is asked for, changed, and talked about."""

from __future__ import annotations

import random

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import form_letters, form_term
from musician.music.tasks import editing, reading, wordings, writing
from musician.music.tasks.task import Rule, Task
from musician.runtime.errors import UserError


def make_conversation(tune_text: str, seed: int, turns: int = 4) -> list[Task]:
    """Chain up to `turns` instructions and answers about one tune; each answer is computed from the tune as it stands.

    The first asks for the tune from its description; what follows transposes it, rewrites it with another unit length,
    harmonises it by rule, asks for its form, its motifs, its key or a description of it, nothing twice. Prompts show no
    tune, which was said before; names are those of the rules. Empty for a text that gives no such tune.
    """
    rng = random.Random(f"{seed}:conversation:{tune_text}")
    source = parse_tune(tune_text)
    begun = writing.text_to_abc(source, rng) if any(note.midi is not None for note in source.notes) else None
    if begun is None:
        return []
    said = [Task("text_to_abc", *begun)]
    tune = parse_tune(begun[1])
    for name, step in rng.sample(_STEPS, len(_STEPS)):
        if len(said) == turns:
            break
        turn = step(tune, rng)
        if turn:
            said.append(Task(name, *turn))
            tune = parse_tune(turn[1]) if turn[1].startswith("X:") else tune
    return said


def _transpose(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    found = editing.to_another_key(tune, rng)
    return found and (rng.choice(wordings.NOW_TRANSPOSE).format(key=found[0]), found[1])


def _change_unit(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    unit = rng.choice([unit for unit in editing.UNITS if unit != tune.unit])
    try:
        return rng.choice(wordings.NOW_UNIT).format(unit=unit), editing.set_unit(tune, unit)
    except UserError:
        return None


def _name_form(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    letters = form_letters(tune)
    return (rng.choice(wordings.NOW_FORM), f"{letters}: {form_term(letters)}") if letters else None


def _name_key(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    return (rng.choice(wordings.NOW_KEY), tune.key.name) if tune.key.plain else None


def _describe(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    told = reading.describe(tune)
    return (rng.choice(wordings.NOW_DESCRIBE), told) if told else None


def _without_the_tune(rule: Rule, choices: tuple[str, ...]) -> Rule:
    """A rule's answer under another wording, which shows no tune."""

    def step(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
        made = rule(tune, rng)
        return made and (rng.choice(choices), made[1])

    return step


_STEPS: list[tuple[str, Rule]] = [
    ("transposed", _transpose),
    ("unit_changed", _change_unit),
    ("harmonised_by_rule", _without_the_tune(editing.harmonised_by_rule, wordings.NOW_HARMONISE)),
    ("form_terms", _name_form),
    ("motifs", _without_the_tune(reading.motifs, wordings.NOW_MOTIFS)),
    ("key_of_tune", _name_key),
    ("description", _describe),
]
