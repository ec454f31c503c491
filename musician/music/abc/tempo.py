"""How fast a tune goes: what its `Q:` fields say."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from musician.music.abc.elements import ZERO, Bar, Tune
from musician.music.abc.meter import Meter, number

QUARTERS_A_MINUTE = 120
"""Where nothing is said."""
_QUOTED = re.compile(r'"[^"]*"')
_BEATS = re.compile(r"((?:[0-9]+/[0-9]+\s*)+)=\s*([0-9]+)", re.ASCII)
_BARE = re.compile(r"\s*([0-9]+)\s*\Z", re.ASCII)
_LONGEST = 100


def parse_tempo(value: str, meter: Meter | None) -> Fraction | None:
    """Return the quarter notes a minute of a `Q:` field's value; None where it names no number.

    `1/4=120`, `3/8=80`, `1/4 3/8=40` (ABC standard 2.1, 3.1.8). A bare number, which the standard calls outdated,
    counts beats: dotted quarters in compound meters, else quarters.
    """
    value = _QUOTED.sub("", value[:_LONGEST])
    found = _BEATS.search(value)
    if found:
        return sum((_length(part) for part in found[1].split()), ZERO) * 4 * number(found[2])
    bare = _BARE.match(value)
    if bare:
        return number(bare[1]) * (Fraction(3, 2) if meter and meter.compound else Fraction(1))
    return None


def quarters_a_minute(tune: Tune) -> Fraction:
    """Return the tempo at the beginning of a tune, by the header's `Q:`; 120 without one that names a number."""
    return parse_tempo(tune.field("Q"), tune.meter) or Fraction(QUARTERS_A_MINUTE)


class Clock:
    """When things sound.

    Args:
        changes: onsets in whole notes, the first 0, and the quarter notes a minute from there on.
    """

    def __init__(self, changes: Sequence[tuple[Fraction, Fraction]]) -> None:
        self.changes = tuple(changes)
        self._onsets = [onset for onset, _ in changes]
        spans = [float((after - onset) * 240 / tempo) for (onset, tempo), (after, _) in pairwise(changes)]
        self._seconds = [0.0, *accumulate(spans)]

    def __call__(self, onset: Fraction) -> float:
        """Seconds from the beginning to so many whole notes."""
        place = bisect_right(self._onsets, onset) - 1
        return self._seconds[place] + float((onset - self._onsets[place]) * 240 / self.changes[place][1])


def clock(tune: Tune, orders: Mapping[str, Sequence[Bar]], begin: Fraction | None = None) -> Clock:
    """Return the clock of a tune whose voices play these bars.

    A bar goes as fast as it does where it is written, however it was come by. Of several voices the one with most
    changes of tempo leads.

    Args:
        tune: the tune.
        orders: the bars of each voice as they sound.
        begin: quarter notes a minute at the beginning, in place of the tune's; later tempos move with it.
    """
    first = quarters_a_minute(tune)
    factor = begin / first if begin else Fraction(1)
    voices = tune.voices
    leader = max(voices, key=lambda name: sum(len(bar.tempos) for bar in voices[name]), default="")
    before = _before(voices.get(leader, ()), first)
    changes, now = [(ZERO, first)], ZERO
    for bar in orders.get(leader, ()):
        for onset, tempo in ((ZERO, before[id(bar)]), *bar.tempos):
            if now + onset == changes[-1][0]:
                changes[-1] = (now + onset, tempo)
            elif tempo != changes[-1][1]:
                changes.append((now + onset, tempo))
        now += bar.duration
    return Clock([(onset, tempo * factor) for onset, tempo in changes])


def _before(bars: Sequence[Bar], tempo: Fraction) -> dict[int, Fraction]:
    """Return the tempo in force where each bar begins, by the bar's `id`."""
    found: dict[int, Fraction] = {}
    for bar in bars:
        found[id(bar)] = tempo
        tempo = bar.tempos[-1][1] if bar.tempos else tempo
    return found


def _length(part: str) -> Fraction:
    above, _, below = part.partition("/")
    return Fraction(number(above), number(below))
