"""Which letter a written answer means.

The kinds below are tried in order; the first that finds a letter decides, and an answer in which none does counts as
unparsed. Letters are capital. A letter must not begin a word or the name of a key or chord: `the answer is D major` and
`A perfect fifth` name an option's text, not its letter.

1. `answer`: `Answer: B`, `the answer is (B)`, `the correct answer would be option B because ...`.
2. `leading`: the answer begins with `B`, `B.`, `(B)` or `B:`, as after a prompt that ends in `Answer:`.
3. `option`: `option B`, `choice (B)`, where all such mentions agree.
4. `bracket`: `(B)` or `[B]`, likewise.
5. `line`: a line that begins with `B.` or `B)`, likewise.
6. `text`: the words of exactly one option occur in the answer, letter case and white space aside; an option whose words
   are part of another's that occurs does not count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from musician.benchmarks.question import LETTERS

# What may follow a letter that stands for an option: the end of a sentence, or words that go on about the choice.
_END = (
    r"(?=[\])*_\"'`]*(?:\s*$|\s*\n|[.:;!]+(?:\s|$)|[\])*_]+\s|,\s+[a-z]{2}"
    r"|\s+(?:because|since|as|for|which|and\s+the|[-–—])\b?)|[\])*_\"'`]*\s*[\\$])"
)
_LETTER = r"[\s*_\"'`(\[$]*([A-D])"
_BEGIN = r"[\s*_\"'`(\[$]*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to name a letter.

    Attributes:
        kind: its name in reports.
        regex: its one group is the letter.
        agreeing: all matches must name one letter; otherwise the first counts, or in reasoning the last.
    """

    kind: str
    regex: re.Pattern[str]
    agreeing: bool


_VERB = r"(?:\s+(?:is|are|was|would\s+be|should\s+be|must\s+be))?"
PATTERNS = (
    Pattern(
        "answer",
        re.compile(rf"\b(?i:answer{_VERB}\s*[*_]*\s*[:=]?\s*(?:therefore|thus)?[,:]?\s*(?:option|choice)?){_LETTER}{_END}"),
        False,
    ),
    Pattern("leading", re.compile(rf"\A{_LETTER}{_END}"), False),
    Pattern("option", re.compile(rf"\b(?i:option|choice){_LETTER}{_END}"), True),
    Pattern("bracket", re.compile(r"[(\[]([A-D])[)\]]"), True),
    Pattern("line", re.compile(r"^\W*([A-D])[.)](?:\s|$)", re.MULTILINE), True),
)
KINDS = (*(pattern.kind for pattern in PATTERNS), "text")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A letter, and the kind of evidence for it."""

    letter: str
    kind: str


def parse_answer(answer: str, options: Sequence[str], reasoning: bool = False) -> Parsed | None:
    """Return the letter an answer means, or None.

    Args:
        answer: what the model wrote.
        options: the texts of A to D.
        reasoning: the answer thinks before it decides, so the last `answer` counts instead of the first.
    """
    for pattern in PATTERNS:
        letters = pattern.regex.findall(answer)
        if letters and not (pattern.agreeing and len(set(letters)) > 1):
            return Parsed(letters[-1 if reasoning else 0], pattern.kind)
    letter = verbatim_option(answer, options)
    return Parsed(letter, "text") if letter else None


def verbatim_option(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of the one option whose text occurs in the answer."""
    texts = [_even(option) for option in options]
    said = _even(answer)
    found = [text for text in texts if text and _occurs(text, said)]
    longest = [text for text in found if not any(text != other and _occurs(text, other) for other in found)]
    return LETTERS[texts.index(longest[0])] if len(longest) == 1 else None


def _even(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _occurs(part: str, whole: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?![\w#♯♭])", whole) is not None
