"""Which questions of a benchmark occur in a training set, as text or as music in any key.

Text: runs of 13 words in a row (letter case, punctuation and white space aside) of a question's stem, and of its stem
with its options; one of 8 to 12 words counts as a whole. Wording that more than three questions of a benchmark share is
no evidence. Music: runs of steps of the melodies in ABC notation, as `musician.music.family` has them, so that
transposition, title, unit length and bars leave no trace; a melody shorter than such a run counts only where it is the
whole of a training melody.

The training set is read once, text by text; what is kept is bounded by the size of the benchmarks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from musician.benchmarks.question import LETTERS, Benchmark, Question
from musician.benchmarks.shared_runs import RunIndex
from musician.music.abc import parse_tune
from musician.music.family import MOVES, RUN, Step, melody

Kind = Literal["text", "melody", "contour"]

WORDS = 13
FEWEST_WORDS = 8
FEWEST_STEPS = 8
"""Below it a melody is a scale, a chord or an interval, which proves nothing."""
COMMON = 3
"""Runs that more questions than this share are the benchmark's wording."""

_WORD = re.compile(r"\w+")
_FIELD = re.compile(r"\s*[XMLK]:\s*\S")
_AFTER_TUNE = re.compile(r"\s*(?:[A-D][.)]\s|Answer:|Human:|Assistant:)")
_ONE_LINE_HEADER = re.compile(r"(?:[XMLQ]:\S{1,40} {1,4}){1,8}K:\S{1,40}(?: |$)", re.MULTILINE)


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
    """The runs of one benchmark's questions, and the best match of each so far."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.name = benchmark.name
        self._questions = unasked(benchmark.questions())
        parts = [[split_music(part) for part in (q.stem, *q.stored_options)] for q in self._questions]
        melodies = [[melody(parse_tune(tune)) for _, tunes in each for tune in tunes] for each in parts]
        long_enough = [[steps for steps in each if len(steps) >= FEWEST_STEPS] for each in melodies]
        self._indexes: dict[Kind, RunIndex] = {
            "text": RunIndex([_texts([prose for prose, _ in each]) for each in parts], WORDS, FEWEST_WORDS, COMMON),
            "melody": RunIndex(long_enough, RUN, RUN, COMMON),
            "contour": RunIndex([[contour(steps) for steps in each] for each in long_enough], MOVES, MOVES, COMMON),
        }
        self._short = _by_melody(long_enough)
        self._best: dict[tuple[int, Kind], Match] = {}
        self._with_melody = sum(bool(each) for each in long_enough)

    def read(self, where: int, said: Sequence[str], melodies: Sequence[list[Step]]) -> None:
        """Look for every question in one training text."""
        self._note("text", where, self._indexes["text"].find([said]))
        if melodies:
            whole = {q: 1.0 for steps in melodies for q in self._short.get(tuple(steps), ())}
            self._note("melody", where, self._indexes["melody"].find(melodies) | whole)
            self._note("contour", where, self._indexes["contour"].find([contour(steps) for steps in melodies]))

    def report(self, texts: int) -> Contamination:
        """Return what was found in so many texts."""
        kinds = list(self._indexes)
        order = sorted(self._best, key=lambda key: (key[0], kinds.index(key[1])))
        matches = [self._best[key] for key in order]
        return Contamination(
            self.name, len(self._questions), self._indexes["text"].covered, self._with_melody, texts, matches
        )

    def _note(self, kind: Kind, where: int, shares: dict[int, float]) -> None:
        for place, share in shares.items():
            question, best = self._questions[place], self._best.get((place, kind))
            seen = best.texts + 1 if best else 1
            better = (best.share, best.where) if best and best.share >= share else (share, where)
            self._best[place, kind] = Match(question.subject, question.index, kind, *better, seen)


def unasked(questions: Iterable[Question]) -> list[Question]:
    """Return each question once, however often it is asked."""
    return list({(question.subject, question.index): question for question in questions}.values())


def words(text: str) -> list[str]:
    """Return the words of a text, without letter case, punctuation and variants of a character."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def contour(steps: Sequence[Step]) -> list[int]:
    """Return the changes of pitch of a melody, in semitones."""
    return [interval for interval, _ in steps if interval]


def split_music(text: str) -> tuple[str, list[str]]:
    """Part a text into its prose and its tunes.

    A tune goes from a line with an `X:`, `M:`, `L:` or `K:` field to a blank line, the next `X:`, an option (`A. ...`)
    or the end of a turn. A header written on one line, as the README of ChatMusician prints its tunes, counts as one.
    """
    if ":" not in text:
        return text, []
    prose: list[str] = []
    tunes: list[list[str]] = []
    inside = False
    for line in _ONE_LINE_HEADER.sub(lambda found: "\n" + "\n".join(found[0].split()) + "\n", text).splitlines():
        if _FIELD.match(line) and (not inside or line.lstrip().startswith("X:")):
            tunes.append([])
            inside = True
        inside = inside and bool(line.strip()) and not _AFTER_TUNE.match(line)
        (tunes[-1] if inside else prose).append(line)
    return "\n".join(prose), ["\n".join(tune) for tune in tunes]


def _texts(parts: Sequence[str]) -> list[list[str]]:
    """Return the words a question is recognised by: of its stem, of stem and options, and of those with letters."""
    stem, *options = parts
    lettered = [f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return [words("\n".join(lines)) for lines in ([stem], parts, [stem, *lettered])]


def _by_melody(melodies: Sequence[Sequence[list[Step]]]) -> dict[tuple[Step, ...], list[int]]:
    """Return which questions have each melody that is shorter than a run."""
    found: dict[tuple[Step, ...], list[int]] = {}
    for place, each in enumerate(melodies):
        for steps in each:
            if len(steps) < RUN:
                found.setdefault(tuple(steps), []).append(place)
    return found
