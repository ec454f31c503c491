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
from musician.music.analysis.family import melody


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
    asked = {each.name: unasked(each.questions()) for each in benchmarks}
    known = {
        name: KnownQuestions([(question.stem, *question.stored_options) for question in questions])
        for name, questions in asked.items()
    }
    best: dict[str, dict[tuple[int, Kind], Match]] = {name: {} for name in asked}
    count = 0
    for where, text in enumerate(texts):
        count = where + 1
        prose, tunes = split_music(text)
        said, melodies = words(prose), [melody(parse_tune(tune)) for tune in tunes]
        for name, runs in known.items():
            for kind, shares in runs.find(said, melodies).items():
                for place, share in shares.items():
                    before = best[name].get((place, kind))
                    better = (before.share, before.where) if before and before.share >= share else (share, where)
                    question, texts_with = asked[name][place], before.texts + 1 if before else 1
                    best[name][place, kind] = Match(question.subject, question.index, kind, *better, texts_with)
    kinds = get_args(Kind)
    return {
        name: Contamination(
            name,
            len(questions),
            known[name].checked_text,
            known[name].checked_music,
            count,
            [best[name][key] for key in sorted(best[name], key=lambda key: (key[0], kinds.index(key[1])))],
        )
        for name, questions in asked.items()
    }


def unasked(questions: Iterable[Question]) -> list[Question]:
    """Return each question once, however often it is asked."""
    return list({(question.subject, question.index): question for question in questions}.values())
