"""Tasks in which a tune is read: its form, key and meter, its motif, a description, questions."""

from __future__ import annotations

import random

from musician.music.abc.elements import Note, Tune
from musician.music.analysis.form import form_letters, form_term, motif_notes, section_bars, sounding_form
from musician.music.tasks import wordings
from musician.music.tasks.questions import TOPICS, draft_question, pose
from musician.music.tasks.task import Rule
from musician.music.tasks.written import tidy, written_notes
from musician.music.theory.items import TheoryItem

LETTERS = "ABCD"
_FEWEST_BARS = 4


def form(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the order in which the sections sound."""
    letters = sounding_form(tune)
    return (f"{rng.choice(wordings.FORM)}\n{tidy(tune)}", letters) if letters else None


def key_of_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for tonic and mode."""
    return (f"{rng.choice(wordings.KEY_OF_TUNE)}\n{tidy(tune)}", tune.key.name) if tune.key.plain else None


def open_question(topic: str, choices: tuple[str, ...]) -> Rule:
    """Return the rule that asks a question of `musician.music.tasks.questions` without options."""

    def rule(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
        draft = draft_question(topic, tune, rng)
        return (f"{rng.choice(choices)}\n{draft.stem}", draft.right) if draft else None

    return rule


def meter_of_tune(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """As the question on meter, with meters of four different bar lengths offered, so that one alone fits."""
    question = pose("meter", tune, rng)
    if question is None:
        return None
    offered = f"It is one of {', '.join(question.options[:3])} and {question.options[3]}."
    shown = question.stem.partition("\n")[2]
    return f"{rng.choice(wordings.METER_OF_TUNE)} {offered}\n{shown}", question.options[question.answer]


def multiple_choice(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask one of the questions the tune supports in the form of the benchmarks."""
    for topic in rng.sample(list(TOPICS), len(TOPICS)):
        question = pose(topic, tune, rng)
        if question:
            return render(question), LETTERS[question.answer]
    return None


def render(question: TheoryItem) -> str:
    """Return the question as benchmarks print it, up to and including `Answer:`."""
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)]
    return "\n".join([question.stem, *options, "Answer:"])


def form_terms(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the form as written: letters by likeness of the sections, and the term for them (appendix D)."""
    letters = form_letters(tune)
    if not letters or min(len(part) for part in section_bars(tune)) < _FEWEST_BARS:
        return None
    return f"{rng.choice(wordings.FORM_TERMS)}\n{tidy(tune)}", f"{letters}: {form_term(letters)}"


def motifs(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the run of notes that returns most often in each section (appendix D)."""
    found = [written_notes(tune, motif_notes(part)) for part in section_bars(tune)]
    if not found or "" in found:
        return None
    lines = [f"Section {number}: {text}" for number, text in enumerate(found, start=1)]
    return f"{rng.choice(wordings.MOTIFS)}\n{tidy(tune)}", "\n".join(lines)


def description(tune: Tune, rng: random.Random) -> tuple[str, str] | None:
    """Ask what can be said of a tune; every sentence is counted."""
    told = describe(tune)
    return (f"{rng.choice(wordings.DESCRIPTION)}\n{tidy(tune)}", told) if told else None


def describe(tune: Tune) -> str | None:
    """Say key, meter, length, sections, compass and the commonest note length of a tune; None without a key."""
    notes = [note for note in tune.notes if note.midi is not None]
    if not notes or not tune.key.tonic:
        return None
    lowest, highest = min(notes, key=_pitch), max(notes, key=_pitch)
    lengths = [note.duration for note in notes]
    usual = max(sorted(set(lengths)), key=lengths.count)
    parts = len(section_bars(tune))
    return (
        f"The tune is in {tune.key.name}, {f'in {tune.meter}' if tune.meter else 'in free meter'}. "
        f"It has {len(tune.bars)} bars in {parts} section{'s' if parts > 1 else ''} as written. "
        f"Its lowest note is {tune.text[lowest.start : lowest.pitch_end]} and its highest "
        f"{tune.text[highest.start : highest.pitch_end]}, {_pitch(highest) - _pitch(lowest)} semitones apart. "
        f"The commonest note length is {usual} of a whole note."
    )


def _pitch(note: Note) -> int:
    return note.midi or 0
