"""Multiple-choice questions made by rule from tunes: tasks to train on, never a benchmark.

Each answer is computed from the notes the question shows, never from what a transcriber remarked.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from typing import NamedTuple

from musician.music.abc.body import NOTE_PARTS
from musician.music.abc.meter import Meter
from musician.music.abc.reader import Tune, parse_tune
from musician.music.analysis.interval import COMMON, Interval, neighbours, staff_place
from musician.music.edit import excerpt
from musician.runtime.errors import UserError

METERS = ("2/4", "3/4", "4/4", "2/2", "3/8", "6/8", "9/8", "12/8", "3/2", "5/4", "6/4", "5/8", "7/8")
NOTE_VALUES = {
    Fraction(1, 16): "a sixteenth note",
    Fraction(1, 8): "an eighth note",
    Fraction(3, 16): "a dotted eighth note",
    Fraction(1, 4): "a quarter note",
    Fraction(3, 8): "a dotted quarter note",
    Fraction(1, 2): "a half note",
    Fraction(3, 4): "a dotted half note",
}
ROUNDS = 4
"""How often at most the tunes are gone round for further questions on a topic."""


@dataclass(frozen=True)
class TuneQuestion:
    """A question on four options; `answer` is the place of the right one, `source` that of the tune among the texts."""

    topic: str
    stem: str
    options: tuple[str, str, str, str]
    answer: int
    source: int


class Draft(NamedTuple):
    """A stem, its right answer and at least three wrong ones."""

    stem: str
    right: str
    wrong: Sequence[str]


def make_questions(texts: Sequence[str], per_topic: int, seed: int) -> list[TuneQuestion]:
    """Make `per_topic` questions on each of `TOPICS`, topic by topic, no stem twice.

    Tunes are taken in random order, each once a topic before any is taken again, and so that rare answers (five flats)
    come as often as common ones while there are tunes for them. Over all questions, and within each
    topic, each letter is right equally often up to rounding. The same arguments give the same questions.

    Raises:
        UserError: the tunes do not yield so many questions on a topic.
    """
    tunes = [parse_tune(text) for text in texts]
    questions: list[TuneQuestion] = []
    for topic in TOPICS:
        rng = random.Random(f"{seed}:{topic}")
        drafts = _drafts(topic, tunes, per_topic, rng)
        letters = [(len(questions) + place) % 4 for place in range(per_topic)]
        rng.shuffle(letters)
        questions += [
            _posed(topic, draft, source, letter, rng) for (draft, source), letter in zip(drafts, letters, strict=True)
        ]
    return questions


def draft_question(topic: str, tune: Tune, rng: random.Random) -> Draft | None:
    """Return a question on a topic of `TOPICS` from one tune; None where the tune does not support one."""
    draft = TOPICS[topic](tune, rng)
    return draft if draft and len(set(draft.wrong) - {draft.right}) >= 3 else None


def pose(topic: str, tune: Tune, rng: random.Random) -> TuneQuestion | None:
    """Return a question on one tune with its right option anywhere; None where the tune does not support one."""
    draft = draft_question(topic, tune, rng)
    return _posed(topic, draft, 0, rng.randrange(4), rng) if draft else None


def _drafts(topic: str, tunes: Sequence[Tune], count: int, rng: random.Random) -> list[tuple[Draft, int]]:
    """Return so many drafts, no stem twice, their right answers as evenly spread as the tunes allow."""
    found = _candidates(topic, tunes, count, rng)
    if len(found) < count:
        raise UserError(
            f"{len(tunes)} tunes yield {len(found)} questions on '{topic}', not {count}: "
            "give more tunes or lower per_topic"
        )
    by_answer: dict[str, list[tuple[Draft, int]]] = {}
    for draft, source in found:
        by_answer.setdefault(draft.right, []).append((draft, source))
    dealt = [each for row in zip_longest(*by_answer.values()) for each in row if each][:count]
    rng.shuffle(dealt)
    return dealt


def _candidates(topic: str, tunes: Sequence[Tune], count: int, rng: random.Random) -> list[tuple[Draft, int]]:
    """Return one draft a tune, tunes shuffled, and further ones of the same tunes while there are too few."""
    order = list(range(len(tunes)))
    rng.shuffle(order)
    found: dict[str, tuple[Draft, int]] = {}
    for _ in range(ROUNDS):
        for source in order:
            draft = draft_question(topic, tunes[source], rng)
            if draft:
                found.setdefault(draft.stem, (draft, source))
        if len(found) >= count:
            break
    return list(found.values())


def _posed(topic: str, draft: Draft, source: int, answer: int, rng: random.Random) -> TuneQuestion:
    """Set the options, the right one at `answer`."""
    first, second, third = rng.sample(list(dict.fromkeys(wrong for wrong in draft.wrong if wrong != draft.right)), 3)
    options = [first, second, third]
    options.insert(answer, draft.right)
    return TuneQuestion(topic, draft.stem, (options[0], options[1], options[2], options[3]), answer, source)


def _meter(tune: Tune, rng: random.Random) -> Draft | None:
    """Ask for the meter of full bars; the wrong options' bars, and the right one's, all last differently."""
    bars = excerpt.pick_run(tune, rng.choice((3, 4)), rng)
    if not bars or tune.meter is None:
        return None
    wrong: dict[Fraction, str] = {}
    for name in rng.sample(METERS, len(METERS)):
        beats, unit = name.split("/")
        wrong.setdefault(Meter(int(beats), int(unit)).duration, name)
    wrong.pop(tune.meter.duration, None)
    question = "Which meter do these bars of music have?"
    return Draft(
        f"{question}\n{excerpt.header(tune, meter=False)}{excerpt.music(bars)}", str(tune.meter), list(wrong.values())
    )


def _key_signature(tune: Tune, rng: random.Random) -> Draft | None:
    """Ask how many sharps or flats stand in the signature."""
    bars = excerpt.pick_run(tune, 1, rng)
    sharps = tune.key.sharps
    if not bars or abs(sharps) > 7:
        return None
    near = [-sharps, *(sharps + step for step in (-3, -2, -1, 1, 2, 3))]
    stem = f"What is the key signature of this music?\n{excerpt.header(tune)}{excerpt.music(bars)}"
    return Draft(stem, signature_in_words(sharps), [signature_in_words(each) for each in near if abs(each) <= 7])


def signature_in_words(sharps: int) -> str:
    """Return `2 sharps`, `1 flat`, `no sharps or flats`."""
    if sharps == 0:
        return "no sharps or flats"
    return f"{abs(sharps)} {'sharp' if sharps > 0 else 'flat'}{'s' if abs(sharps) > 1 else ''}"


def _interval(tune: Tune, rng: random.Random) -> Draft | None:
    """Ask which interval the first two notes of a bar form."""
    bars = excerpt.pick_run(tune, 1, rng)
    heads = NOTE_PARTS.findall(bars[0].text)[:2] if bars else []
    if len(heads) < 2 or any(note.midi is None for note in bars[0].notes[:2]):
        return None
    first, second = (staff_place(head[1], head[2]) for head in heads)
    low, high = bars[0].notes[0].midi or 0, bars[0].notes[1].midi or 0
    distance = (
        Interval(second - first, high - low) if (second, high) >= (first, low) else Interval(first - second, low - high)
    )
    if distance.name not in COMMON:
        return None
    stem = f"Which interval do the first two notes of this bar form?\n{excerpt.header(tune)}{excerpt.music(bars)}"
    return Draft(stem, distance.name, neighbours(distance))


def _bar_arithmetic(tune: Tune, rng: random.Random) -> Draft | None:
    return rng.choice((_missing_note, _length_in_notes))(tune, rng)


def _missing_note(tune: Tune, rng: random.Random) -> Draft | None:
    """Ask for the length of the note a bar lacks."""
    bars = excerpt.pick_run(tune, 1, rng)
    if not bars or not set(bars[0].text).isdisjoint("()<>"):
        return None
    last = list(NOTE_PARTS.finditer(bars[0].text))[-1:]
    duration = bars[0].notes[-1].duration
    if not last or bars[0].notes[-1].midi is None or len(bars[0].notes) < 2 or duration not in NOTE_VALUES:
        return None
    shown = bars[0].text[: last[0].start()].rstrip()
    question = "This bar lacks its last note. Which note fills it?"
    wrong = [name for value, name in NOTE_VALUES.items() if value != duration]
    return Draft(f"{question}\n{excerpt.header(tune)}| {shown} ... |", NOTE_VALUES[duration], wrong)


def _length_in_notes(tune: Tune, rng: random.Random) -> Draft | None:
    """Ask how many short notes last as long as a few bars."""
    bars = excerpt.pick_run(tune, rng.choice((1, 2, 3)), rng)
    if not bars or tune.meter is None:
        return None
    value, name = rng.choice(((8, "eighth"), (16, "sixteenth")))
    count = tune.meter.duration * len(bars) * value
    if count.denominator != 1:
        return None
    near = {count + step for step in (-4, -3, -2, -1, 1, 2, 3, 4)} | {count * 2, count / 2, count * 3 / 2}
    wrong = [str(each) for each in sorted(near) if each > 0 and each.denominator == 1]
    question = f"How many {name} notes last as long as this music?"
    return Draft(f"{question}\n{excerpt.header(tune)}{excerpt.music(bars)}", str(count), wrong)


TOPICS: dict[str, Callable[[Tune, random.Random], Draft | None]] = {
    "meter": _meter,
    "key_signature": _key_signature,
    "interval": _interval,
    "bar_arithmetic": _bar_arithmetic,
}
