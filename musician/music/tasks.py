"""Instruction tasks made from one tune by rule: each answer follows from the notation, none from a remark."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from musician.music import wordings
from musician.music.abc import Bar, Tune, parse_tune
from musician.music.questions import TOPICS, TuneQuestion, draft_question, pose

LETTERS = "ABCD"
_OTHER_ORDER = re.compile(r"^[PV]:|\[[PV]:|D\.? ?[CS]\b|\bfine\b|[Ss]egno|[Cc]oda", re.MULTILINE | re.IGNORECASE)
_SECTION_END = re.compile(r":|\|\||\]")


@dataclass(frozen=True)
class Task:
    """One instruction and its answer; `name` is that of the rule in `RULES` that made it."""

    name: str
    prompt: str
    answer: str


def make_tasks(tune_text: str, seed: int) -> list[Task]:
    """Make every task the tune supports, in the order of `RULES`; the same arguments give the same tasks.

    A tune without notes yields none; one without repeats no `form`, one whose bars do not add up no `meter_of_tune`.
    """
    tune = parse_tune(tune_text)
    if not any(note.midi is not None for note in tune.notes):
        return []
    made = [(name, rule(tune, random.Random(f"{seed}:{name}:{tune_text}"))) for name, rule in RULES.items()]
    return [Task(name, *pair) for name, pair in made if pair]


def sections(tune: Tune) -> str | None:
    """Return the order in which a tune's sections sound, as `AABB`: sections of the same notes share a letter.

    Sections end at double bar lines and repeat signs; one whose repeat sign stands at its end counts twice. None where
    that is in doubt: endings that differ, an order of parts or da capo, a repeat that opens and does not close, fewer
    than two sections or more than six, one of fewer than four bars.
    """
    parts = _parts(tune.bars)
    if not 2 <= len(parts) <= 6 or min(len(part) for part in parts) < 4 or _in_doubt(tune, parts):
        return None
    letters: dict[tuple[object, ...], str] = {}
    form = ""
    for part in parts:
        notes = tuple(note for bar in part for note in bar.notes)
        letter = letters.setdefault(notes, "ABCDEF"[len(letters)])
        form += letter * (2 if part[-1].barline.startswith(":") else 1)
    return form


def _in_doubt(tune: Tune, parts: list[list[Bar]]) -> bool:
    """Whether the sections may sound in another order than their bar lines say."""
    ends = [(part[0].opening.endswith(":"), part[-1].barline) for part in parts]
    return (
        any(bar.ending for bar in tune.bars)
        or bool(tune.field("P"))
        or _OTHER_ORDER.search(tune.body) is not None
        or any(opens and not closing.startswith(":") for opens, closing in ends)
        or any(":" in closing.strip(":") for _, closing in ends)
    )


def _parts(bars: tuple[Bar, ...]) -> list[list[Bar]]:
    parts: list[list[Bar]] = [[]]
    for bar in bars:
        parts[-1].append(bar)
        if _SECTION_END.search(bar.barline):
            parts.append([])
    return [part for part in parts if part]


def tidy(tune: Tune) -> str:
    """Return the tune with the fields that say how it sounds (`X T R M L K`), its body free of comment lines."""
    return f"{_tidy_header(tune)}\n{_tidy_body(tune)}"


def _tidy_header(tune: Tune) -> str:
    fields = [("X", "1"), *((name, tune.field(name)) for name in "TRMLK")]
    return "\n".join(f"{name}:{value}" for name, value in fields if value)


def _tidy_body(tune: Tune) -> str:
    return "\n".join(line.rstrip() for line in tune.body.split("\n") if not line.startswith("%") and line.strip())


def _text_to_abc(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
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


def _continuation(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the second half; only where the halves, written bar by bar, read as the tune does."""
    half = len(tune.bars) // 2
    if half < 4:
        return None
    first = f"{_tidy_header(tune)}\n{tune.bars[0].opening} {_written(tune.bars[:half])}"
    second = _written(tune.bars[half:])
    if tuple(parse_tune(f"{first}\n{second}").notes) != tuple(tune.notes):
        return None
    return f"{rng.choice(wordings.CONTINUATION)}\n{first}", second


def _written(bars: tuple[Bar, ...]) -> str:
    """Return bars with the bar line that closes each, four to a line; an ending's number follows its bar line."""
    words = [f"{'[' + bar.ending + ' ' if bar.ending else ''}{bar.text} {bar.barline}".strip() for bar in bars]
    return "\n".join(" ".join(words[start : start + 4]) for start in range(0, len(words), 4))


def _form(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    form = sections(tune)
    return (f"{rng.choice(wordings.FORM)}\n{tidy(tune)}", form) if form else None


def _form_to_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for a tune of a form that begins with given bars."""
    form = sections(tune)
    if not form or not tune.key.tonic:
        return None
    opening = f"L:{tune.unit}\nM:{tune.meter or 'none'}\nK:{tune.key.abc}\n{_written(tune.bars[:2])}"
    return f"{rng.choice(wordings.FORM_TO_TUNE)}\nForm: {form}\nMotif:\n{opening}", tidy(tune)


def _key_of_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    return (f"{rng.choice(wordings.KEY_OF_TUNE)}\n{tidy(tune)}", tune.key.name) if tune.key.plain else None


def _open_question(topic: str, choices: tuple[str, ...]) -> Callable[[Tune, random.Random], tuple[str, str] | None]:
    """Return the rule that asks a question of `musician.music.questions` without options."""

    def rule(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
        draft = draft_question(topic, tune, rng)
        return (f"{rng.choice(choices)}\n{draft.stem}", draft.right) if draft else None

    return rule


def _meter_of_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """As the question on meter, with meters of four different bar lengths offered, so that one alone fits."""
    question = pose("meter", tune, rng)
    if question is None:
        return None
    offered = f"It is one of {', '.join(question.options[:3])} and {question.options[3]}."
    shown = question.stem.partition("\n")[2]
    return f"{rng.choice(wordings.METER_OF_TUNE)} {offered}\n{shown}", question.options[question.answer]


def _multiple_choice(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask one of the questions the tune supports in the form of the benchmarks."""
    for topic in rng.sample(list(TOPICS), len(TOPICS)):
        question = pose(topic, tune, rng)
        if question:
            return render(question), LETTERS[question.answer]
    return None


def render(question: TuneQuestion) -> str:
    """Return the question as benchmarks print it, up to and including `Answer:`."""
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)]
    return "\n".join([question.stem, *options, "Answer:"])


RULES: dict[str, Callable[[Tune, random.Random], tuple[str, str] | None]] = {
    "text_to_abc": _text_to_abc,
    "continuation": _continuation,
    "form": _form,
    "form_to_tune": _form_to_tune,
    "key_of_tune": _key_of_tune,
    "meter_of_tune": _meter_of_tune,
    "bar_arithmetic": _open_question("bar_arithmetic", wordings.EXERCISE),
    "interval": _open_question("interval", wordings.EXERCISE),
    "key_signature": _open_question("key_signature", wordings.EXERCISE),
    "multiple_choice": _multiple_choice,
}
