"""Multiple-choice questions made by rule from tunes: tasks to train on, never a benchmark.

Each answer is computed from the notes the question shows, never from what a transcriber remarked.
"""

import random
from collections.abc import Callable
from fractions import Fraction

from musician.music.abc.elements import Tune
from musician.music.abc.lexer import NOTE_PARTS
from musician.music.abc.meter import Meter
from musician.music.abc.pitch import Interval, staff_place
from musician.music.edit import excerpt
from musician.music.theory.draws import Draft, some
from musician.music.theory.items import TheoryItem, set_options
from musician.music.theory.notation import METERS, NOTE_VALUES
from musician.music.theory.topics.intervals import COMMON, neighbours
from musician.music.theory.topics.keys import signature_in_words


def draft_question(topic: str, tune: Tune, rng: random.Random) -> Draft | None:
    """Return a question on a topic of `TOPICS` from one tune; None where the tune does not support one."""
    draft = TOPICS[topic](tune, rng)
    return draft if draft and len(set(draft.wrong) - {draft.right}) >= 3 else None


def pose(topic: str, tune: Tune, rng: random.Random) -> TheoryItem | None:
    """Return a question on one tune with its right option anywhere; None where the tune does not support one."""
    draft = draft_question(topic, tune, rng)
    if draft is None:
        return None
    answer = rng.randrange(4)
    wrong = rng.sample(some(draft.wrong, draft.right), 3)
    return set_options(topic, draft._replace(wrong=wrong), answer)


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
