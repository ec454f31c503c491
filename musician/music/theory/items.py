"""Making sets of theory questions: as many as asked for, the same ones for the same seed."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.theory.draws import Draft, some
from musician.music.theory.topics import chords, harmony, intervals, keys, meters, reading, scales, tunes, values
from musician.runtime.errors import UserError

_ROOMS = (intervals, chords, keys, scales, meters, values, harmony, reading)
TOPICS: dict[str, Callable[[random.Random, int], Draft]] = {
    topic.__name__: topic for room in _ROOMS for topic in room.TOPICS
}
"""What can be asked without anything given."""
TUNE_TOPICS: Mapping[str, Callable[[Tune, random.Random, int], Draft | None]] = tunes.TOPICS
"""What is asked of real tunes; None where a tune does not lend itself to it."""
DIFFICULTIES = (1, 2, 3)
WARM_UP = 40
"""Drafts thrown away on each topic, from which to learn how often each answer is right."""
TRIES = 60
"""How many drafts in a row may repeat a stem before a topic counts as exhausted."""


@dataclass(frozen=True, slots=True)
class TheoryItem:
    """A question on four options; `answer` is the place of the right one."""

    topic: str
    stem: str
    options: tuple[str, str, str, str]
    answer: int


def make_items(
    count_per_topic: int,
    seed: int,
    difficulty: int = 2,
    topics: Sequence[str] | None = None,
    tunes: Sequence[str] | None = None,
) -> list[TheoryItem]:
    """Make so many questions on each topic, topic by topic, no stem of a topic twice.

    Over the set, and over any part of it up to rounding, each letter is right equally often. The first questions on
    a topic depend on seed, difficulty and tunes alone, not on how many or what else is asked; where their right option
    stands does.

    Args:
        count_per_topic: questions on each topic.
        seed: fixes everything drawn.
        difficulty: 1, 2 or 3: rarer keys, spellings and values, longer music, nearer wrong options.
        topics: names of `TOPICS` and `TUNE_TOPICS`; None for all that need no tunes, and those that do if there are
            some.
        tunes: ABC texts.

    Raises:
        UserError: an unknown topic or difficulty, a topic on tunes without tunes, or fewer stems on a topic than asked
            for.
    """
    if difficulty not in DIFFICULTIES:
        raise UserError(f"theory: difficulty={difficulty} is unknown; use 1, 2 or 3")
    parsed = [parse_tune(text) for text in tunes or ()]
    items: list[TheoryItem] = []
    letters = _Letters(random.Random(f"{seed}:letters"))
    for topic in _known(topics, bool(parsed)):
        rng = random.Random(f"{seed}:{difficulty}:{topic}")
        drafts = _drafts(topic, _drawer(topic, parsed, difficulty, rng), count_per_topic, rng)
        items += [set_options(topic, draft, letters.next()) for draft in drafts]
    return items


class _Letters:
    """Places of right answers: each four in a row are the four letters in random order."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left: list[int] = []

    def next(self) -> int:
        if not self._left:
            self._left = self._rng.sample(range(4), 4)
        return self._left.pop()


def _known(topics: Sequence[str] | None, with_tunes: bool) -> list[str]:
    """Return the topics asked for, without repeats."""
    if topics is None:
        return [*TOPICS, *(TUNE_TOPICS if with_tunes else ())]
    for topic in topics:
        if topic not in TOPICS and topic not in TUNE_TOPICS:
            raise UserError(f"theory: no topic '{topic}'; there are {', '.join((*TOPICS, *TUNE_TOPICS))}")
        if topic in TUNE_TOPICS and not with_tunes:
            raise UserError(f"theory: topic '{topic}' asks about real tunes; give some as tunes")
    return list(dict.fromkeys(topics))


def _drawer(topic: str, tunes: Sequence[Tune], difficulty: int, rng: random.Random) -> Callable[[], Draft | None]:
    """Return what draws one question on a topic, or None for a draw in vain."""
    if topic in TOPICS:
        return lambda: TOPICS[topic](rng, difficulty)
    return lambda: TUNE_TOPICS[topic](rng.choice(tunes), rng, difficulty)


def _drafts(topic: str, draw: Callable[[], Draft | None], count: int, rng: random.Random) -> list[Draft]:
    """Return so many drafts, each with three wrong options, no stem twice."""
    options = _WrongOptions(rng)
    for _ in range(WARM_UP):
        options.narrowed(draw())
    found: dict[str, Draft] = {}
    vain = 0
    while len(found) < count:
        draft = options.narrowed(draw())
        if draft and draft.stem not in found:
            found[draft.stem] = draft
            vain = 0
        elif (vain := vain + 1) > TRIES:
            raise UserError(f"theory: topic '{topic}' gives only about {len(found)} questions; lower per_topic")
    return list(found.values())


class _WrongOptions:
    """Chooses three wrong options such that, where it can be had, each text is wrong three times for once right.

    Else one could tell from the options alone that C# major is rarer than C major as an answer.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._owed: Counter[str] = Counter()

    def narrowed(self, draft: Draft | None) -> Draft | None:
        """Return the draft with three wrong options; None where it has fewer."""
        wrong = some(draft.wrong, draft.right) if draft else []
        if draft is None or len(wrong) < 3:
            return None
        self._rng.shuffle(wrong)
        chosen = sorted(wrong, key=lambda option: -self._owed[option])[:3]
        self._owed.update({draft.right: 3})
        self._owed.subtract(chosen)
        return draft._replace(wrong=self._rng.sample(chosen, 3))


def set_options(topic: str, draft: Draft, answer: int) -> TheoryItem:
    """Return a draft with three wrong options as a question, its right option at `answer`."""
    options = list(draft.wrong)
    options.insert(answer, draft.right)
    return TheoryItem(topic, draft.stem, (options[0], options[1], options[2], options[3]), answer)
