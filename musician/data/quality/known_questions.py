"""Known questions, to be recognised in training texts: by runs of words, or by runs of melody in any key.

Text: runs of 13 words in a row (letter case, punctuation and white space aside) of a question's stem, and of its stem
with its options; one of 8 to 12 words counts as a whole. Wording that more than three questions share is no evidence.
Music: runs of steps of the melodies in ABC notation, as `musician.music.analysis.family` has them, so that
transposition, title, unit length and bars leave no trace; a melody shorter than such a run counts only where it is the
whole of a training melody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from string import ascii_uppercase
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musician.music.abc.extract import split_music
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import MOVES, RUN, Step, melody
from musician.music.analysis.melody_index import RunIndex

Kind = Literal["text", "melody", "contour"]

WORDS = 13
FEWEST_WORDS = 8
FEWEST_STEPS = 8
"""Below it a melody is a scale, a chord or an interval, which proves nothing."""
COMMON = 3
"""Runs that more questions than this share are the benchmark's wording."""

_WORD = re.compile(r"\w+")


class KnownQuestions:
    """The runs of questions' texts and melodies; memory grows with the questions alone.

    Args:
        questions: of each its stem and its options.

    Attributes:
        checked_text: questions with text long enough to be recognised.
        checked_music: those with a melody long enough.
    """

    def __init__(self, questions: Sequence[Sequence[str]]) -> None:
        parts = [[split_music(part) for part in question] for question in questions]
        melodies = [[melody(parse_tune(tune)) for _, tunes in each for tune in tunes] for each in parts]
        long_enough = [[steps for steps in each if len(steps) >= FEWEST_STEPS] for each in melodies]
        self._runs: dict[Kind, GroupRuns] = {
            "text": GroupRuns([_texts([prose for prose, _ in each]) for each in parts], WORDS, FEWEST_WORDS),
            "melody": GroupRuns(long_enough, RUN, RUN),
            "contour": GroupRuns([[contour(steps) for steps in each] for each in long_enough], MOVES, MOVES),
        }
        self._short = _by_melody(long_enough)
        self.checked_text = self._runs["text"].covered
        self.checked_music = sum(bool(each) for each in long_enough)

    def find(self, said: Sequence[str], melodies: Sequence[list[Step]]) -> dict[Kind, dict[int, float]]:
        """Return which questions a text holds, and what share of the runs of each.

        Args:
            said: `words` of its prose.
            melodies: of its tunes.
        """
        found: dict[Kind, dict[int, float]] = {"text": self._runs["text"].find([said])}
        if melodies:
            whole = {q: 1.0 for steps in melodies for q in self._short.get(tuple(steps), ())}
            found["melody"] = self._runs["melody"].find(melodies) | whole
            found["contour"] = self._runs["contour"].find([contour(steps) for steps in melodies])
        return found


class GroupRuns:
    """The runs of groups of sequences of symbols, and which groups share some with sequences that are read.

    Args:
        groups: of sequences of symbols (words, steps of a melody).
        length: symbols of a run.
        shortest: a sequence shorter than a run, but not than this, counts as a run.
        common: runs that more groups than this have are left out.

    Attributes:
        covered: groups with a run.
    """

    def __init__(
        self, groups: Sequence[Sequence[Sequence[Hashable]]], length: int, shortest: int, common: int = COMMON
    ) -> None:
        self._codes: dict[Hashable, int] = {}
        self._bits = np.random.default_rng(13)
        by_size: dict[int, list[tuple[int, NDArray[np.uint64]]]] = {}
        for group, sequences in enumerate(groups):
            for symbols in sequences:
                size = min(len(symbols), length)
                if size >= shortest:
                    by_size.setdefault(size, []).append((group, self._learn(symbols)))
        self._indexes: list[tuple[RunIndex, NDArray[np.int64], NDArray[np.int64]]] = []
        for size, members in sorted(by_size.items()):
            owners = [group for group, _ in members]
            index = RunIndex([codes for _, codes in members], size, owners, common)
            totals = np.bincount(index.owners(index.places), minlength=len(index))
            self._indexes.append((index, np.array(owners), totals))
        self.covered = len({group for _, owners, totals in self._indexes for group in owners[totals > 0].tolist()})

    def find(self, sequences: Iterable[Sequence[Hashable]]) -> dict[int, float]:
        """Return the groups that share a run with the given sequences, and how much.

        That is the share of the runs of a sequence that all the given ones together hold, of the group's best sequence.
        """
        codes = np.array([self._codes.get(symbol, 0) for each in sequences for symbol in (*each, None)], np.uint64)
        shares: dict[int, float] = {}
        for index, groups, totals in self._indexes:
            _, places = index.find(codes)
            counts = np.bincount(index.owners(np.unique(places)), minlength=len(index))
            for found in np.flatnonzero(counts).tolist():
                group, share = int(groups[found]), float(counts[found] / totals[found])
                shares[group] = max(shares.get(group, 0.0), share)
        return shares

    def _learn(self, symbols: Sequence[Hashable]) -> NDArray[np.uint64]:
        """Return a code for each symbol; foreign symbols, which were never learned, have the code 0."""
        for symbol in symbols:
            if symbol not in self._codes:
                self._codes[symbol] = int(self._bits.integers(1, 2**64, dtype=np.uint64))
        return np.array([self._codes[symbol] for symbol in symbols], np.uint64)


def words(text: str) -> list[str]:
    """Return the words of a text, without letter case, punctuation and variants of a character."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def contour(steps: Sequence[Step]) -> list[int]:
    """Return the changes of pitch of a melody, in semitones."""
    return [interval for interval, _ in steps if interval]


def _texts(parts: Sequence[str]) -> list[list[str]]:
    """Return the words a question is recognised by: of its stem, of stem and options, and of those with letters."""
    stem, *options = parts
    lettered = [f"{letter} {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return [words("\n".join(lines)) for lines in ([stem], parts, [stem, *lettered])]


def _by_melody(melodies: Sequence[Sequence[list[Step]]]) -> dict[tuple[Step, ...], list[int]]:
    """Return which questions have each melody that is shorter than a run."""
    found: dict[tuple[Step, ...], list[int]] = {}
    for place, each in enumerate(melodies):
        for steps in each:
            if len(steps) < RUN:
                found.setdefault(tuple(steps), []).append(place)
    return found
