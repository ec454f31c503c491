"""Which questions of a benchmark occur in a training set, as text or as music in any key.

How they are recognised: `musician.data.quality.known_questions`. The training set is read once, text by text; what is
kept is bounded by the size of the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from musician.benchmarks.benchmark import Benchmark
from musician.benchmarks.multiple_choice.question import Question
from musician.data.quality.known_questions import Kind, KnownQuestions, words
from musician.music.abc.extract import split_music
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import Step, melody


@dataclass(frozen=True, slots=True)
class Match:
    """A question found in the training set.

    Attributes:
        subject: of the question.
        index: of the question, in its data set's own file.
        kind: `text`, `melody` (pitch steps and rhythm) or `contour` (pitch steps alone).
        share: of the runs of the question's text or melody that the best matching text holds, above 0 to 1. A small one
            may be a common phrase; from a half on it is hardly anything but a copy.
        where: position of that text in the training set, from 0; the earliest of the best.
        texts: training texts that match.
    """

    subject: str
    index: int
    kind: Kind
    share: float
    where: int
    texts: int


@dataclass(frozen=True)
class Contamination:
    """What a training set holds of one benchmark.

    Attributes:
        benchmark: its name.
        questions: questions it has, each counted once however often it is asked.
        checked_text: those with text long enough to be recognised.
        checked_music: those with a melody long enough to be recognised.
        texts: training texts read.
        matches: question by question in the benchmark's order, text first.
    """

    benchmark: str
    questions: int
    checked_text: int
    checked_music: int
    texts: int
    matches: Sequence[Match]

    def indexes(self, least_share: float = 0.0) -> list[tuple[str, int]]:
        """Return subject and index of every question found, in any way, to at least such a share."""
        found = ((match.subject, match.index) for match in self.matches if match.share >= least_share)
        return list(dict.fromkeys(found))

    def summary(self) -> str:
        """Return a line for the console."""
        kinds = {kind: sum(match.kind == kind for match in self.matches) for kind in ("text", "melody", "contour")}
        found = ", ".join(f"{count} by {kind}" for kind, count in kinds.items())
        return (
            f"{self.benchmark}: {len(self.indexes())} of {self.questions} questions found in {self.texts} training "
            f"texts, {len(self.indexes(0.5))} of them at least by half ({found}; {self.checked_text} could be "
            f"recognised by text, {self.checked_music} by music)"
        )


def contamination(benchmarks: Iterable[Benchmark], texts: Iterable[str]) -> dict[str, Contamination]:
    """Look for the questions of benchmarks in training texts.

    Args:
        benchmarks: with names of their own.
        texts: read once, in order; a conversation as one text.

    Returns:
        What was found, by benchmark.
    """
    searches = [_Search(benchmark) for benchmark in benchmarks]
    count = 0
    for where, text in enumerate(texts):
        count = where + 1
        prose, tunes = split_music(text)
        said, melodies = words(prose), [melody(parse_tune(tune)) for tune in tunes]
        for search in searches:
            search.read(where, said, melodies)
    return {search.name: search.report(count) for search in searches}


class _Search:
    """The questions of one benchmark, and the best match of each so far."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.name = benchmark.name
        self._questions = unasked(benchmark.questions())
        self._known = KnownQuestions([(question.stem, *question.stored_options) for question in self._questions])
        self._best: dict[tuple[int, Kind], Match] = {}

    def read(self, where: int, said: Sequence[str], melodies: Sequence[list[Step]]) -> None:
        """Look for every question in one training text."""
        for kind, shares in self._known.find(said, melodies).items():
            self._note(kind, where, shares)

    def report(self, texts: int) -> Contamination:
        """Return what was found in so many texts."""
        kinds = get_args(Kind)
        order = sorted(self._best, key=lambda key: (key[0], kinds.index(key[1])))
        matches = [self._best[key] for key in order]
        known = self._known
        return Contamination(self.name, len(self._questions), known.checked_text, known.checked_music, texts, matches)

    def _note(self, kind: Kind, where: int, shares: dict[int, float]) -> None:
        for place, share in shares.items():
            question, best = self._questions[place], self._best.get((place, kind))
            seen = best.texts + 1 if best else 1
            better = (best.share, best.where) if best and best.share >= share else (share, where)
            self._best[place, kind] = Match(question.subject, question.index, kind, *better, seen)


def unasked(questions: Iterable[Question]) -> list[Question]:
    """Return each question once, however often it is asked."""
    return list({(question.subject, question.index): question for question in questions}.values())
