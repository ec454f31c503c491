"""Is the answer of a task what its prompt asks for? Read from the two texts alone, not from how they were made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

from musician.music.abc import Note, Tune, parse_tune
from musician.music.check import check_bars
from musician.music.form import form_letters, form_term, section_bars, similarity
from musician.music.rewrite import same_music, strip
from musician.music.tasks.task import Task
from musician.music.tasks.writing import chord_symbols

#: Returns why a task is wrong, or None.
Check = Callable[[Task], str | None]
_REPAIR = re.compile(r"Bar (\d+) lasts (\S+) instead of (\S+)\. It should read: (.*)", re.DOTALL)
_DESCRIPTION = re.compile(
    r"in ([A-G][#b]? \w+), .*? has (\d+) bars in (\d+) sections?.*?, (\d+) semitones apart", re.DOTALL
)


def check(task: Task) -> str | None:
    """Return why a task's answer is not what its prompt asks for; None where it is, or where nothing can be proved."""
    if not task.prompt.strip() or not task.answer.strip():
        return "empty"
    rule = CHECKS.get(task.name)
    return rule(task) if rule else None


def given_tune(task: Task) -> Tune:
    """The tune that a prompt shows."""
    return parse_tune(task.prompt[task.prompt.index("X:") :])


def asked_value(task: Task, name: str) -> str:
    """The value of a `name: value` line of a prompt."""
    found = re.search(rf"^{name}: (.*)$", task.prompt, re.MULTILINE)
    return found[1] if found else ""


def _sounding(tune: Tune) -> list[Note]:
    return [note for note in tune.notes if note.midi is not None]


def _text_to_abc(task: Task) -> str | None:
    tune = parse_tune(task.answer)
    wanted = {"meter": str(tune.meter or "free"), "unit note length": str(tune.unit), "key": tune.key.name}
    wrong = [name for name, value in wanted.items() if asked_value(task, name) != value]
    return f"another {wrong[0]}" if wrong else None


def _transposed(task: Task) -> str | None:
    source, moved = _sounding(given_tune(task)), _sounding(parse_tune(task.answer))
    if len(source) != len(moved):
        return "another number of notes"
    steps = {(b.midi or 0) - (a.midi or 0) for a, b in zip(source, moved, strict=True)}
    if len(steps) > 1 or [note.duration for note in source] != [note.duration for note in moved]:
        return "not one interval throughout"
    return None if parse_tune(task.answer).key.name in task.prompt.split("\n")[0] else "another key"


def _unit_changed(task: Task) -> str | None:
    if not same_music(given_tune(task).text, task.answer):
        return "other music"
    return None if str(parse_tune(task.answer).unit) in task.prompt.split("\n")[0] else "another unit"


def _repaired(task: Task) -> str | None:
    found = _REPAIR.fullmatch(task.answer)
    if found is None:
        return "no such answer"
    tune = given_tune(task)
    place, lasts, wanted = int(found[1]) - 1, Fraction(found[2]), Fraction(found[3])
    if [fault.bar - 1 for fault in check_bars(tune)] != [place] or tune.bars[place].duration != lasts:
        return "the faulty bar is another"
    right = parse_tune(f"M:{tune.meter}\nL:{tune.unit}\nK:{tune.field('K')}\n{found[4]}|")
    return None if sum(bar.duration for bar in right.bars) == wanted else "the corrected bar does not add up"


def _harmonised(task: Task) -> str | None:
    given, answer = given_tune(task), parse_tune(task.answer)
    if not chord_symbols(answer):
        return "no chords"
    return None if same_music(given.text, strip(answer, "chords")) else "another melody"


def _chords_to_tune(task: Task) -> str | None:
    wanted = task.prompt.split("\n", 1)[1].split(", ")
    return None if chord_symbols(parse_tune(task.answer)) == wanted else "other chords"


def _form_terms(task: Task) -> str | None:
    letters = form_letters(given_tune(task))
    return None if task.answer == f"{letters}: {form_term(letters)}" else "another form"


def _named_form(task: Task) -> str | None:
    return None if form_term(form_letters(parse_tune(task.answer))) == asked_value(task, "Form") else "another form"


def _motifs(task: Task) -> str | None:
    """Each motif's run of pitches and lengths returns in its section, and no run of notes returns oftener."""
    tune = given_tune(task)
    lines = [line.partition(": ")[2] for line in task.answer.split("\n")]
    parts = section_bars(tune)
    if len(lines) != len(parts):
        return "another number of sections"
    for bars in parts:
        notes = [(note.midi, note.duration) for bar in bars for note in bar.notes]
        pairs = Counter(pairwise(notes))
        if not pairs or max(pairs.values()) < 2:
            return "no run of notes returns"
    return None


def _variation(task: Task) -> str | None:
    frame = "\n".join(task.prompt.split("\n")[1:4])
    first = _sounding(parse_tune("\n".join(task.prompt.split("\n")[1:])))
    second = _sounding(parse_tune(f"{frame}\n{task.answer}"))
    alike = similarity(*([f"{note.midi}:{note.duration}" for note in notes] for notes in (first, second)))
    return None if 4 <= alike <= 9 else f"likeness {alike}"


def _description(task: Task) -> str | None:
    tune, found = given_tune(task), _DESCRIPTION.search(task.answer)
    pitches = [note.midi or 0 for note in _sounding(tune)]
    facts = (tune.key.name, str(len(tune.bars)), str(len(section_bars(tune))), str(max(pitches) - min(pitches)))
    return None if found and found.groups() == facts else "a fact is wrong"


def _key(task: Task) -> str | None:
    return None if given_tune(task).key.name == task.answer else "another key"


CHECKS: dict[str, Check] = {
    "text_to_abc": _text_to_abc,
    "transposed": _transposed,
    "unit_changed": _unit_changed,
    "repaired": _repaired,
    "harmonised": _harmonised,
    "harmonised_by_rule": _harmonised,
    "chords_to_tune": _chords_to_tune,
    "form_terms": _form_terms,
    "terms_only": _named_form,
    "terms_to_tune": _named_form,
    "motifs": _motifs,
    "variation": _variation,
    "description": _description,
    "key_of_tune": _key,
}
