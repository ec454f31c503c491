"""Is the answer of a task what its prompt asks for? Read from the two texts alone, not from how they were made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from musician.music.abc.key import Key
from musician.music.abc.reader import Bar, Note, Tune, parse_tune
from musician.music.analysis.check import check_bars
from musician.music.analysis.form import form_letters, form_term, section_bars, similarity
from musician.music.analysis.sounding_form import sections
from musician.music.edit.rewrite import same_music, strip
from musician.music.tasks.question_checks import chosen_letter, meter_offered, open_answer
from musician.music.tasks.task import Task
from musician.music.tasks.writing import chord_symbols
from musician.music.theory.pitch import named_pitch

#: Returns why a task is wrong, or None.
Check = Callable[[Task], str | None]
_REPAIR = re.compile(r"Bar (\d+) lasts (\S+) instead of (\S+)\. It should read: (.*)", re.DOTALL)
_DESCRIPTION = re.compile(
    r"in ([A-G][#b]? \w+), .*? has (\d+) bars in (\d+) sections?.*?, (\d+) semitones apart", re.DOTALL
)


def check(task: Task) -> str | None:
    """Return why a task's answer is not what its prompt asks for; None where it is."""
    if not task.prompt.strip() or not task.answer.strip():
        return "empty"
    return CHECKS[task.name](task)


def check_conversation(turns: Sequence[Task]) -> str | None:
    """Return why a turn's answer is not what is asked for of the tune as it stands by then; None where all are."""
    tune = ""
    for turn in turns:
        reason = check(replace(turn, prompt=f"{turn.prompt}\n{tune}") if tune else turn)
        if reason:
            return f"{turn.name}: {reason}"
        tune = turn.answer if turn.answer.startswith("X:") else tune
    return None


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


def _continued(task: Task) -> str | None:
    """The second half leaves the first as it is, is as long, and adds up where the first does."""
    first = given_tune(task)
    whole = parse_tune(f"{first.text}\n{task.answer}")
    if list(whole.notes)[: len(list(first.notes))] != list(first.notes):
        return "the beginning has changed"
    if len(whole.bars) - 2 * len(first.bars) not in (0, 1):
        return "no second half"
    return "the bars no longer add up" if check_bars(whole) and not check_bars(first) else None


def _in_style(task: Task) -> str | None:
    """The prompt names someone, and there is a tune; whose it is cannot be proved from the notes."""
    named = asked_value(task, "Composer") or asked_value(task, "Origin")
    return None if named and _sounding(parse_tune(task.answer)) else "no name or no tune"


def _sounding_form(task: Task) -> str | None:
    return None if sections(given_tune(task)) == task.answer else "another form"


def _form_with_opening(task: Task) -> str | None:
    tune, opening = parse_tune(task.answer), list(parse_tune(task.prompt.partition("\nMotif:\n")[2]).notes)
    if sections(tune) != asked_value(task, "Form"):
        return "another form"
    return None if opening and list(tune.notes)[: len(opening)] == opening else "another beginning"


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


def _harmonised_by_rule(task: Task) -> str | None:
    """Over each bar stands that primary triad whose notes sound longest in it."""
    reason = _harmonised(task)
    tune = parse_tune(task.answer)
    chords = chord_symbols(tune)
    if reason or len(chords) != len(tune.bars):
        return reason or "not one chord a bar"
    over = zip(chords, tune.bars, strict=True)
    wrong = [chord for chord, bar in over if _triad(chord) != _longest_triad(bar, tune.key)]
    return f"{wrong[0]} is not the chord" if wrong else None


def _triad(symbol: str) -> frozenset[int]:
    """The pitch classes of a major or minor triad by its symbol."""
    root = named_pitch(symbol.removesuffix("m")).midi
    return frozenset((root + step) % 12 for step in (0, 3 if symbol.endswith("m") else 4, 7))


def _longest_triad(bar: Bar, key: Key) -> frozenset[int]:
    """Of the tonic, dominant (always major) and subdominant triads the one that sounds longest, the first of equals."""
    tonic, third = named_pitch(key.tonic).midi, 3 if key.mode == "minor" else 4
    steps = ((0, third, 7), (7, 11, 14), (5, 5 + third, 12))
    triads = [frozenset((tonic + step) % 12 for step in triad) for triad in steps]
    sounding = [note for note in bar.notes if note.midi is not None]
    return max(triads, key=lambda triad: sum(note.duration for note in sounding if (note.midi or 0) % 12 in triad))


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


#: One for every rule of `musician.music.tasks.rules`.
CHECKS: dict[str, Check] = {
    "text_to_abc": _text_to_abc,
    "continuation": _continued,
    "form_to_tune": _form_with_opening,
    "terms_to_tune": _named_form,
    "terms_only": _named_form,
    "style": _in_style,
    "variation": _variation,
    "chords_to_tune": _chords_to_tune,
    "harmonised": _harmonised,
    "harmonised_by_rule": _harmonised_by_rule,
    "transposed": _transposed,
    "unit_changed": _unit_changed,
    "repaired": _repaired,
    "form": _sounding_form,
    "form_terms": _form_terms,
    "motifs": _motifs,
    "description": _description,
    "key_of_tune": _key,
    "meter_of_tune": meter_offered,
    "bar_arithmetic": open_answer,
    "interval": open_answer,
    "key_signature": open_answer,
    "multiple_choice": chosen_letter,
}
