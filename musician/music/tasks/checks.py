"""Is the answer of a task what its prompt asks for? Read from the two texts alone, not from how they were made.

docs/tasks.md names, kind by kind, what another computation than the one that made the answer proves, and what is only
read again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from musician.music.abc.elements import Bar, Note, Tune
from musician.music.abc.key import Key
from musician.music.abc.pitch import named_pitch
from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars
from musician.music.analysis.form import form_letters, form_term, section_bars, similarity, sounding_form
from musician.music.edit.rewrite import same_music
from musician.music.tasks.question_checks import chosen_letter, meter_offered, open_answer
from musician.music.tasks.task import Task

#: Returns why a task is wrong, or None.
Check = Callable[[Task], str | None]
_REPAIR = re.compile(r"Bar (\d+) lasts (\S+) instead of (\S+)\. It should read: (.*)", re.DOTALL)
_QUOTED = re.compile(r'"([^"\n]*)"')
_FIELD = re.compile(r"[A-Za-z]:(?![|:])")
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


def _form(task: Task) -> str | None:
    return None if sounding_form(given_tune(task)) == task.answer else "another form"


def _form_with_opening(task: Task) -> str | None:
    tune, opening = parse_tune(task.answer), list(parse_tune(task.prompt.partition("\nMotif:\n")[2]).notes)
    if sounding_form(tune) != asked_value(task, "Form"):
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
    """The answer without what stands in quotes is the melody given, character by character."""
    given = task.prompt[task.prompt.index("X:") :]
    if not _chords_written(task.answer):
        return "no chords"
    return None if _without_quotes(given) == _without_quotes(task.answer) else "another melody"


def _without_quotes(text: str) -> str:
    return "".join(_QUOTED.sub("", text).split())


def _chords_written(text: str) -> list[str]:
    """Return the chord symbols below the header, by what stands in quotes on lines that are no fields."""
    lines = text.partition("\nK:")[2].split("\n")[1:]
    music = [line.partition("%")[0] for line in lines if not _FIELD.match(line)]
    return [quoted for line in music for quoted in _QUOTED.findall(line) if quoted[:1] in tuple("ABCDEFG")]


def _harmonised_by_rule(task: Task) -> str | None:
    """Over each bar stands that primary triad whose notes sound longest in it."""
    reason = _harmonised(task)
    tune = parse_tune(task.answer)
    chords = _chords_written(task.answer)
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
    return None if _chords_written(task.answer) == wanted else "other chords"


def _form_terms(task: Task) -> str | None:
    letters = form_letters(given_tune(task))
    return None if task.answer == f"{letters}: {form_term(letters)}" else "another form"


def _named_form(task: Task) -> str | None:
    return None if form_term(form_letters(parse_tune(task.answer))) == asked_value(task, "Form") else "another form"


def _motifs(task: Task) -> str | None:
    """Each motif returns in its section as often as any two notes in a row do, and so as any run does."""
    tune = given_tune(task)
    frame = f"L:{tune.unit}\nK:{tune.field('K')}\n"
    motifs = [parse_tune(frame + line.partition(": ")[2]).notes for line in task.answer.split("\n")]
    parts = section_bars(tune)
    if len(motifs) != len(parts):
        return "another number of sections"
    for motif, bars in zip(motifs, parts, strict=True):
        notes = [note for bar in bars for note in bar.notes]
        most = max(Counter(pairwise((note.midi, note.duration) for note in notes)).values(), default=0)
        if most < 2:
            return "no run of notes returns"
        # By place on the staff, since an accidental of the bar is not written at every note of the motif.
        run, places = _places(motif), _places(notes)
        if sum(places[start : start + len(run)] == run for start in range(len(places) - len(run) + 1)) < most:
            return "another run of notes returns oftener"
    return None


def _places(notes: Iterable[Note]) -> list[int | None]:
    return [None if note.midi is None else note.place for note in notes]


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
    "form": _form,
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
