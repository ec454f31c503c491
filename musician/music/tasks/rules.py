"""Every rule by name, and the tasks that one tune gives."""

from __future__ import annotations

import random

from musician.music.abc.reader import parse_tune
from musician.music.tasks import editing, reading, wordings, writing
from musician.music.tasks.task import Rule, Task

RULES: dict[str, Rule] = {
    "text_to_abc": writing.text_to_abc,
    "continuation": writing.continuation,
    "form_to_tune": writing.form_to_tune,
    "terms_to_tune": writing.terms_to_tune,
    "terms_only": writing.terms_only,
    "style": writing.style,
    "variation": writing.variation,
    "chords_to_tune": writing.chords_to_tune,
    "harmonised": editing.harmonised,
    "harmonised_by_rule": editing.harmonised_by_rule,
    "transposed": editing.transposed,
    "unit_changed": editing.unit_changed,
    "repaired": editing.repaired,
    "form": reading.form,
    "form_terms": reading.form_terms,
    "motifs": reading.motifs,
    "description": reading.description,
    "key_of_tune": reading.key_of_tune,
    "meter_of_tune": reading.meter_of_tune,
    "bar_arithmetic": reading.open_question("bar_arithmetic", wordings.EXERCISE),
    "interval": reading.open_question("interval", wordings.EXERCISE),
    "key_signature": reading.open_question("key_signature", wordings.EXERCISE),
    "multiple_choice": reading.multiple_choice,
}


def make_tasks(tune_text: str, seed: int) -> list[Task]:
    """Make every task the tune supports, in the order of `RULES`; the same arguments give the same tasks.

    A tune without notes yields none; one without repeats no `form`, one whose bars do not add up no `meter_of_tune`.
    """
    tune = parse_tune(tune_text)
    if not any(note.midi is not None for note in tune.notes):
        return []
    made = [(name, rule(tune, random.Random(f"{seed}:{name}:{tune_text}"))) for name, rule in RULES.items()]
    return [Task(name, *pair) for name, pair in made if pair]
