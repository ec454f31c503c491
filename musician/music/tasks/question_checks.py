"""Is the answer to a question about a few bars right? Computed from the bars that the prompt shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from musician.music.abc.elements import Tune
from musician.music.abc.pitch import Interval
from musician.music.abc.reader import parse_tune
from musician.music.tasks.task import Task
from musician.music.theory.notation import NOTE_VALUES

#: Says whether an answer is right for the bars shown; the match is that of the question.
Proof = Callable[[re.Match[str], Tune, str], bool]
_MUSIC = re.compile(r"^(?:M:.*\n)?L:.*\nK:.*\n\|.*\|$", re.MULTILINE)
_OPTION = re.compile(r"^([A-D])\. (.*)$", re.MULTILINE)
_OFFERED = re.compile(r"It is one of (.*) and (.*)\.")
_SIGNATURE = re.compile(r"([1-7]) (sharp|flat)s?")


def open_answer(task: Task) -> str | None:
    """Return why the answer to a question without options is wrong."""
    return None if _right(task.prompt, task.answer) else "another answer is right"


def chosen_letter(task: Task) -> str | None:
    """Return why the letter chosen is wrong; no other option may be right."""
    right = [letter for letter, option in _OPTION.findall(task.prompt) if _right(task.prompt, option)]
    return None if right == [task.answer] else f"right is {' and '.join(right) or 'no option'}"


def meter_offered(task: Task) -> str | None:
    """Return why the meter named is not the one of those offered that the bars have."""
    offered, music = _OFFERED.search(task.prompt), _MUSIC.search(task.prompt)
    if offered is None or music is None:
        return "no meters offered or no music"
    right = [name for name in (*offered[1].split(", "), offered[2]) if _lasts(parse_tune(music[0]), name)]
    return None if right == [task.answer] else "another meter fits"


def _right(prompt: str, answer: str) -> bool:
    """Whether the question is known and the answer right for the bars below it."""
    music = _MUSIC.search(prompt)
    asked = next(((proof, found) for question, proof in _PROOFS if (found := question.search(prompt))), None)
    return music is not None and asked is not None and asked[0](asked[1], parse_tune(music[0]), answer)


def _lasts(shown: Tune, meter: str) -> bool:
    return {bar.duration for bar in shown.bars} == {Fraction(meter)}


def _is_meter(_: re.Match[str], shown: Tune, answer: str) -> bool:
    return _lasts(shown, answer)


def _is_signature(_: re.Match[str], shown: Tune, answer: str) -> bool:
    found = _SIGNATURE.fullmatch(answer)
    wanted = (int(found[1]) if found[2] == "sharp" else -int(found[1])) if found else 0
    altered = sum(shown.key.alterations.values())
    return wanted == altered and (found is not None or answer == "no sharps or flats")


def _is_interval(_: re.Match[str], shown: Tune, answer: str) -> bool:
    first, second = shown.bars[0].notes[:2]
    letters, semitones = second.place - first.place, (second.midi or 0) - (first.midi or 0)
    return answer in (Interval(letters, semitones).name, Interval(-letters, -semitones).name)


def _is_missing_note(_: re.Match[str], shown: Tune, answer: str) -> bool:
    lacking = shown.meter.duration - shown.bars[0].duration if shown.meter else None
    return lacking in NOTE_VALUES and NOTE_VALUES[lacking] == answer


def _is_number_of_notes(question: re.Match[str], shown: Tune, answer: str) -> bool:
    value = Fraction(1, {"eighth": 8, "sixteenth": 16}[question[1]])
    return answer.isdigit() and value * int(answer) == sum(bar.duration for bar in shown.bars)


_PROOFS: tuple[tuple[re.Pattern[str], Proof], ...] = (
    (re.compile("Which meter do these bars"), _is_meter),
    (re.compile("What is the key signature"), _is_signature),
    (re.compile("Which interval do the first two notes"), _is_interval),
    (re.compile("This bar lacks its last note"), _is_missing_note),
    (re.compile("How many (eighth|sixteenth) notes"), _is_number_of_notes),
)
