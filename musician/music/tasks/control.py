"""How well an answer does what its task asks: the ChatMusician paper's scores (Appendix F) and absolute ones.

The paper's scores are distances that only rank models on the same prompts: `control/*_distance`, lower is better. The
absolute ones run from 0 to 1 and need no competitors. What a task does not ask for is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby, pairwise

from rapidfuzz.distance import LCSseq, Levenshtein

from musician.music.abc.elements import Note, Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import form_letters, form_term, motif, section_bars, sounding_form
from musician.music.tasks.checks import asked_value, given_tune
from musician.music.tasks.task import Task
from musician.music.tasks.writing import chord_symbols

_LIKE = 0.9
"""Share of a motif's steps from which it counts as there, in any key."""
_MOST = 2000
"""Of longer sequences only the beginning is compared."""


def measure_control(task: Task, tune: Tune) -> dict[str, float]:
    """Return how the tune that was written fits the prompt of the task; the task's own answer is not looked at."""
    measured = MEASURES[task.name](task, tune) if task.name in MEASURES else {}
    return {f"control/{name}": float(value) for name, value in measured.items()}


def _header(task: Task, tune: Tune) -> dict[str, float]:
    found = {"meter": str(tune.meter or "free"), "unit note length": str(tune.unit), "key": tune.key.name}
    return {name.partition(" ")[0]: asked_value(task, name) == value for name, value in found.items()}


def _chords(task: Task, tune: Tune) -> dict[str, float]:
    asked, written = task.prompt.split("\n", 1)[1].split(", "), chord_symbols(tune)[:_MOST]
    return {
        "chords": _unrepeated(asked) == _unrepeated(written),
        "chords_in_order": LCSseq.similarity(asked, written) / len(asked),
        "chords_distance": Levenshtein.distance(asked, written),
    }


def _unrepeated(chords: Sequence[str]) -> list[str]:
    return [chord for chord, _ in groupby(chords)]


def _letters(task: Task, tune: Tune) -> dict[str, float]:
    """An alphabetic form as it sounds, and the bars the tune should begin with."""
    asked, written = asked_value(task, "Form"), sounding_form(tune) or ""
    form = {"form": asked == written, "form_distance": len(set(asked) ^ set(written))}
    return form | _motif(_after(task, "Motif:"), tune)


def _term(task: Task, tune: Tune) -> dict[str, float]:
    """A form by its term, and where the prompt has one, a motif that should return."""
    asked, written = asked_value(task, "Form"), form_term(form_letters(tune)) if form_letters(tune) else ""
    form: dict[str, float] = {"form": asked == written}
    given = _after(task, "Motif:")
    if given is None:
        return form | {"form_distance": len({asked} ^ ({written} - {""}))}
    return form | {"form_distance": len({asked} ^ ({written} - {""}))} | _motif(given, tune)


def _after(task: Task, mark: str) -> Tune | None:
    _, found, rest = task.prompt.partition(f"\n{mark}\n")
    return parse_tune(rest) if found else None


def _motif(given: Tune | None, tune: Tune) -> dict[str, float]:
    """Whether a motif is there as given, or alike in any key; the paper compares it with the tune's own motif."""
    wanted = _sounding(given) if given else []
    if len(wanted) < 2:
        return {}
    written = _sounding(tune)[:_MOST]
    likeness = max((_alike(wanted, written[start:]) for start in range(len(written) - len(wanted) + 1)), default=0.0)
    own = [token for bars in section_bars(tune)[:1] for token in motif(bars)]
    tokens = [f"{note.midi}:{note.duration}" for note in wanted]
    return {
        "motif": _contains(_sound(written), _sound(wanted)),
        "motif_in_any_key": likeness >= _LIKE,
        "motif_common": LCSseq.similarity(tokens, own) / len(tokens),
    }


def _alike(wanted: Sequence[Note], written: Sequence[Note]) -> float:
    """The share of steps that two runs of notes, the second cut to the first's length, have in common by place."""
    one, other = _steps(wanted), _steps(written[: len(wanted)])
    return sum(left == right for left, right in zip(one, other, strict=True)) / len(one)


def _steps(notes: Sequence[Note]) -> list[tuple[int, Fraction]]:
    return [((b.midi or 0) - (a.midi or 0), b.duration / a.duration) for a, b in pairwise(notes)]


def _sound(notes: Sequence[Note]) -> list[tuple[int | None, Fraction]]:
    return [(note.midi, note.duration) for note in notes]


def _contains(whole: Sequence[object], part: Sequence[object]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def _sounding(tune: Tune) -> list[Note]:
    return [note for note in tune.notes if note.midi is not None and note.duration]


def _harmony(task: Task, tune: Tune) -> dict[str, float]:
    """Whether the melody given is still there, and chords have come to it."""
    asked, written = _sound(_sounding(given_tune(task)))[:_MOST], _sound(_sounding(tune))[:_MOST]
    return {
        "melody_kept": LCSseq.similarity(asked, written) / len(asked),
        "melody_distance": Levenshtein.distance(asked, written),
        "chord_a_bar": min(1.0, len(chord_symbols(tune)) / max(1, len(tune.bars))),
    }


MEASURES: dict[str, Callable[[Task, Tune], dict[str, float]]] = {
    "text_to_abc": _header,
    "chords_to_tune": _chords,
    "form_to_tune": _letters,
    "terms_to_tune": _term,
    "terms_only": _term,
    "harmonised": _harmony,
    "harmonised_by_rule": _harmony,
}
