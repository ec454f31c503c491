"""How fast a tune goes: what its `Q:` field says."""

import re
from fractions import Fraction

from musician.music.abc import Tune
from musician.music.meter import number

QUARTERS_A_MINUTE = 120
"""Where nothing is said."""
_QUOTED = re.compile(r'"[^"]*"')
_BEATS = re.compile(r"((?:[0-9]+/[0-9]+\s*)+)=\s*([0-9]+)", re.ASCII)
_BARE = re.compile(r"\s*([0-9]+)\s*\Z", re.ASCII)
_LONGEST = 100


def quarters_a_minute(tune: Tune) -> Fraction:
    """Return the tempo that the header's `Q:` gives, in quarter notes a minute; 120 without one that names a number.

    `Q:1/4=120`, `Q:3/8=80`, `Q:1/4 3/8=40` (ABC standard 2.1, 3.1.8). A bare number, which the standard calls
    outdated, counts beats: dotted quarters in compound meters, else quarters. Words and tempo changes in the body say
    nothing here.
    """
    value = _QUOTED.sub("", tune.field("Q")[:_LONGEST])
    found = _BEATS.search(value)
    if found:
        return sum((_length(part) for part in found[1].split()), Fraction(0)) * 4 * number(found[2])
    bare = _BARE.match(value)
    if bare:
        return number(bare[1]) * (Fraction(3, 2) if tune.meter and tune.meter.compound else Fraction(1))
    return Fraction(QUARTERS_A_MINUTE)


def _length(part: str) -> Fraction:
    above, _, below = part.partition("/")
    return Fraction(number(above), number(below))
