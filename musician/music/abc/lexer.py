"""The signs of ABC music: what each stretch of a line below `K:` is.

Written from the ABC standard 2.1. Matching takes time linear in the text: no sign runs over a line's end, and those
that could be left open (decorations) are bounded.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

from musician.music.abc.meter import FINEST, number
from musician.runtime.errors import UserError

BODY_FIELD = re.compile(r"([H-Wh-wYy+]|[A-GXZ](?=:[^|:\]]*[A-Za-z0-9])):(?!\s*[|:])(.*)", re.ASCII | re.DOTALL)
"""A field line among the music. Capitals that are notes and rests need words after them, so `A:|B` is music."""

_LENGTH = r"[0-9]*/*[0-9]*"
_HEAD = rf"(?P<accidental>\^\^?|__?|=)?(?P<letter>[A-Ga-g])(?P<marks>[',]*)(?P<length>{_LENGTH})(?P<tie>-?)"
TOKEN = re.compile(
    rf"""
      (?P<note>{_HEAD})
    | (?P<bar>\[?\|[|:\]]*|:+\|[|:\]]*|::+) (?P<number>[0-9][0-9,.\-]*)?
    | (?P<rest>[zxZX](?P<rest_length>{_LENGTH}))
    | (?P<broken>>+|<+)
    | \((?P<tuplet>[0-9]+(?::[0-9]*){{0,2}})
    | "(?P<quoted>[^"\n]*)"
    | (?P<decoration>![^!\s|]{{1,40}}! | \+[^+\s|]{{1,40}}\+ | [~H-Wh-w.])
    | (?P<grace>\{{/?) | (?P<grace_end>\}})
    | \[(?P<field>[A-Za-z]:[^\[\]\n]*)\]
    | \[(?P<ending>[0-9][0-9,.\-]*|"[^"\n]*")
    | (?P<chord>\[(?P<inner>[^\[\]|\n]*)\](?P<chord_length>{_LENGTH})(?P<chord_tie>-?))
    | (?P<separate_tie>-)
    | (?P<overlay>&)
    | (?P<idle>[\s)`$*;?@\\]+|\((?![0-9])|y[0-9]*|!)
    | (?P<unread>.)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
"""`idle` has no bearing on pitch or time: white space, slurs, beam marks, line breaks, spacers, reserved signs."""
IN_CHORD = re.compile(rf'{_HEAD}|"[^"\n]*"|![^!\s]{{1,40}}!', re.ASCII)
"""What stands between the brackets of a chord; anything but notes is passed over."""

NOTE_PARTS = re.compile(r"(\^\^?|__?|=)?([A-Ga-g])([',]*)([0-9]*)(/*)([0-9]*)(-?)", re.ASCII)
"""A note alone, its parts as groups: accidental, letter, octave marks, digits, slashes, divisor, tie."""
_LENGTH_PARTS = re.compile(r"([0-9]*)(/*)([0-9]*)", re.ASCII)
_LINE = re.compile(r"[^\r\n]*")
_COMMENT = re.compile(r"(?<!\\)%")


@cache
def _multiple(length: str) -> Fraction:
    found = _LENGTH_PARTS.match(length)
    assert found is not None
    digits, slashes, divisor = found.groups()
    below = number(divisor, FINEST) if slashes and divisor else 2 ** min(len(slashes), 7)
    return Fraction(number(digits) if digits else 1, below)


def multiple(length: str) -> Fraction:
    """Return the multiple of the unit that a note length such as `3/2` or `//` stands for.

    Numbers are bounded by `musician.music.abc.meter`'s limits. Answers are remembered for all but freakish spellings.
    """
    return (_multiple if len(length) < 6 else _multiple.__wrapped__)(length)


def write_length(length: Fraction) -> str:
    """Return a multiple of the unit length as ABC writes it: nothing, `2`, `3/2`, `/2`.

    Raises:
        UserError: it is finer than the reader reads.
    """
    if length.denominator > FINEST:
        raise UserError(f"a note of {length} units is finer than 1/{FINEST}: choose a shorter unit length")
    above = "" if length.numerator == 1 else str(length.numerator)
    return above + (f"/{length.denominator}" if length.denominator > 1 else "")


def lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each line of `text[start:end]` begins and ends; `\\n`, `\\r\\n` and `\\r` part lines."""
    while start <= end:
        found = _LINE.match(text, start, end)
        assert found is not None
        yield start, found.end()
        start = found.end() + (2 if text.startswith("\r\n", found.end()) else 1)


def code_end(text: str, start: int, end: int) -> int:
    """Return where a line's comment begins, or the line ends; an escaped `\\%` begins none."""
    found = _COMMENT.search(text, start, end)
    return found.start() if found else end
