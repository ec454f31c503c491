"""Which letter a written answer means.

The kinds below are tried in order; the first that finds a letter decides, and an answer in which none does counts as
unparsed. Letters are capital. A letter must not begin a word or the name of a key or chord: `the answer is D major` and
`A perfect fifth` name an option's text, not its letter.

1. `answer`: `Answer: B`, `the answer is (B)`, `the correct answer would be option B because ...`.
2. `leading`: the answer begins with `B`, `B.`, `(B)` or `B:`, as after a prompt that ends in `Answer:`.
3. `option`: `option B`, `choice (B)`, where all such mentions agree.
4. `bracket`: `(B)` or `[B]`, likewise.
5. `line`: a line that begins with `B.` or `B)`, likewise.
6. `text`: the words of exactly one option occur in the answer (as written, else with letter case aside for options of
   four characters or more); an option whose words are part of another's that occurs does not count.

An answer that reasons first is read from its end: the last `answer` decides, else the last line alone is read as above.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from musician.benchmarks.multiple_choice.question import LETTERS

# Bounded repeats: a model that writes blanks for ever must not cost cubic time.
_OPENING = r"(?:[\s*_\"'`(\[{$]|\\boxed){0,8}"
_CLOSING = r"[\s*_\"'`)\]}$]"
# What follows a letter that stands for an option: the end, a stop, a closing bracket, or words about the choice.
_ON = r",\s+[a-z]{2}|\s(?:because|since|as|for|which)\b|\s[-–—]\s"
_END = rf"(?={_CLOSING}{{0,8}}(?:\n|\Z|[.:;!?](?:{_CLOSING}|\Z)|{_ON})|[)\]*])"
_LETTER = rf"{_OPENING}([A-D]){_END}"
_VERB = r"(?:\s+(?:is|was|would\s+be|should\s+be|must\s+be))?"
_AMBIGUOUS = (*LETTERS, "I")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to name a letter.

    Attributes:
        kind: its name in reports.
        regex: its one group is the letter.
        agreeing: all matches must name one letter; otherwise the first counts.
    """

    kind: str
    regex: re.Pattern[str]
    agreeing: bool


PATTERNS = (
    Pattern(
        "answer", re.compile(rf"\b(?i:answer{_VERB}[\s*_]{{0,4}}[:=]?\s{{0,4}}(?:option|choice)?){_LETTER}"), False
    ),
    Pattern("leading", re.compile(rf"\A{_LETTER}"), False),
    Pattern("option", re.compile(rf"\b(?i:option|choice){_LETTER}"), True),
    Pattern("bracket", re.compile(r"[(\[]([A-D])[)\]]"), True),
    Pattern("line", re.compile(r"^\W{0,8}([A-D])[.)](?:\s|$)", re.MULTILINE), True),
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
        reasoning: the answer thinks before it decides.
    """
    if reasoning:
        conclusions = PATTERNS[0].regex.findall(answer)
        if conclusions:
            return Parsed(conclusions[-1], PATTERNS[0].kind)
        answer = answer.strip().rpartition("\n")[2]
    for pattern in PATTERNS:
        letters = pattern.regex.findall(answer)
        if letters and not (pattern.agreeing and len(set(letters)) > 1):
            return Parsed(letters[0], pattern.kind)
    letter = verbatim_option(answer, options)
    return Parsed(letter, "text") if letter else None


def verbatim_option(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of the one option whose text occurs in the answer."""
    said = " ".join(answer.split())
    texts = [" ".join(option.split()).rstrip(".") for option in options]
    # As written first: `ii` and `II` are two chords. Single letters are too often a word or another option's name.
    exact = [text if text not in _AMBIGUOUS else "" for text in texts]
    folded = [text.casefold() if len(text) >= 4 else "" for text in texts]
    return _only(exact, said) or _only(folded, said.casefold())


def _only(texts: Sequence[str], said: str) -> str | None:
    """Return the letter of the one text that occurs, not counting those that lie inside another."""
    found = [text for text in texts if text and _occurs(text, said)]
    outer = [text for text in found if not any(text != other and _occurs(text, other) for other in found)]
    return LETTERS[texts.index(outer[0])] if len(outer) == 1 else None


def _occurs(part: str, whole: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?![\w#♯♭])", whole) is not None
