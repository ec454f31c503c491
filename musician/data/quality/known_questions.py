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
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from musician.data.quality.shared_runs import RunIndex
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import MOVES, RUN, Step, melody

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
        self._indexes: dict[Kind, RunIndex] = {
            "text": RunIndex([_texts([prose for prose, _ in each]) for each in parts], WORDS, FEWEST_WORDS, COMMON),
            "melody": RunIndex(long_enough, RUN, RUN, COMMON),
            "contour": RunIndex([[contour(steps) for steps in each] for each in long_enough], MOVES, MOVES, COMMON),
        }
        self._short = _by_melody(long_enough)
        self.checked_text = self._indexes["text"].covered
        self.checked_music = sum(bool(each) for each in long_enough)

    def find(self, said: Sequence[str], melodies: Sequence[list[Step]]) -> dict[Kind, dict[int, float]]:
        """Return which questions a text holds, and what share of the runs of each.

        Args:
            said: `words` of its prose.
            melodies: of its tunes.
        """
        found: dict[Kind, dict[int, float]] = {"text": self._indexes["text"].find([said])}
        if melodies:
            whole = {q: 1.0 for steps in melodies for q in self._short.get(tuple(steps), ())}
            found["melody"] = self._indexes["melody"].find(melodies) | whole
            found["contour"] = self._indexes["contour"].find([contour(steps) for steps in melodies])
        return found


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
