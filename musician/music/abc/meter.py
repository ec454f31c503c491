"""Meter and unit note length: what `M:` and `L:` fields say."""

import re
from fractions import Fraction
from typing import NamedTuple

LARGEST = 9999
"""Longer numbers in durations and fields are read as this, so that no text costs unbounded arithmetic."""
FINEST = 128
"""Larger denominators are read as this, which bounds the size of any sum of durations."""

_FRACTION = re.compile(r"\(?\s*([0-9+ ]+?)\s*\)?\s*/\s*([0-9]+)", re.ASCII)
_LONGEST = 100


class Meter(NamedTuple):
    """A time signature: `beats` of 1/`unit` of a whole note in a bar."""

    beats: int
    unit: int

    @property
    def duration(self) -> Fraction:
        """The length of a full bar in whole notes."""
        return Fraction(self.beats, self.unit)

    @property
    def compound(self) -> bool:
        """Whether beats come in threes, as in 6/8, 9/8 and 12/8."""
        return self.beats % 3 == 0 and self.beats > 3

    def __str__(self) -> str:
        return f"{self.beats}/{self.unit}"


def number(digits: str, largest: int = LARGEST) -> int:
    """Read a run of digits as a count between 1 and `largest`."""
    return max(1, min(int(digits), largest)) if len(digits) <= 6 else largest


def parse_meter(value: str) -> Meter | None:
    """Read the value of an `M:` field; None for free meter and for what is no meter. Never raises."""
    value = value.partition("%")[0].strip()[:_LONGEST]
    if value.startswith("C|"):
        return Meter(2, 2)
    if value.startswith("C"):
        return Meter(4, 4)
    found = _FRACTION.match(value)
    if found is None:
        return None
    parts = [number(part.strip(), FINEST) for part in found[1].split("+") if part.strip().isdigit()]
    return Meter(min(sum(parts), LARGEST), number(found[2], FINEST)) if parts else None


def parse_unit(value: str) -> Fraction | None:
    """Read the value of an `L:` field in whole notes; None when it holds no length. Never raises."""
    found = re.match(r"\s*([0-9]+)(?:\s*/\s*([0-9]+))?", value[:_LONGEST], re.ASCII)
    return Fraction(number(found[1]), number(found[2] or "1", FINEST)) if found else None


def default_unit(meter: Meter | None) -> Fraction:
    """Return the unit length where no `L:` stands: 1/16 below a meter of 3/4, else 1/8 (ABC standard 2.1, 3.1.7)."""
    return Fraction(1, 16) if meter and meter.duration < Fraction(3, 4) else Fraction(1, 8)
