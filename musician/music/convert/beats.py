"""From played time to written time: beats tracked through jitter and drifting tempo, notes put on the grid of beats.

A file whose notes lie on a grid of its own ticks is taken at its word. Else a Kalman filter follows each of several
readings of the onsets (which share of which beat each one is), and the likeliest reading is kept; so beat tracking and
quantisation are one search (after A. T. Cemgil and B. Kappen, Monte Carlo Methods for Tempo Tracking and Rhythm
Quantization, 2003; here with a beam in place of sampling).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from musician.music.convert.performance import Performance, Played, by_part

GRID = 24
"""Places in a beat (a quarter note) that a tracked onset may have: 32nds, and triplets of eighths and sixteenths."""
_DENOMINATORS = sorted(2**power * odd for power in range(6) for odd in (1, 3, 5, 7, 9) if 2**power * odd <= 96)
_FEWEST_TICKS = 4
_EXACT_SHARE = 0.97

_BINARY = frozenset(range(0, GRID, 3))
_TERNARY = frozenset(range(0, GRID, 4))
_SHARE = {0: 0.42, 12: 0.24, 6: 0.07, 18: 0.09, 8: 0.03, 16: 0.035, 3: 0.01, 9: 0.01, 15: 0.01, 21: 0.02}
_SHARE |= {4: 0.006, 20: 0.006}
_LOG_SHARE = {place: math.log(share) for place, share in _SHARE.items()}
"""How likely an onset has a place in its beat; our guess, of no corpus."""
_NEXT_BEAT, _FAR = math.log(0.5), 0.3
"""What a tempo loses in likelihood by beat that passes, and by its ratio to a likely one."""

_JITTER = 0.013
"""Standard deviation of an onset in seconds."""
_DRIFT = 0.012
"""Standard deviation of the tempo's relative change within a beat."""
_DOUBT = 0.04
"""Relative standard deviation of the tempo that a search begins with."""
_GATE = 4.0
_BEAM = 24
_LIKELY_QUARTER = 0.5
_PERIODS = tuple(0.36 * 1.06**step for step in range(16))
"""Seconds of a beat that a search begins with where the file's tempo does not fit."""
_PROBE = 60
_GOOD_FIT, _MARGIN = -2.05, 0.2
"""A likelihood an onset with which the file's tempo is not doubted, and how much better another tempo has to be."""
_LEGATO = 0.045


class ScoreNote(NamedTuple):
    """A note in written time: onset and duration in quarter notes, pitch, and the part it came in."""

    onset: Fraction
    duration: Fraction
    midi: int
    part: tuple[int, int]


class _Reading(NamedTuple):
    """A reading of the onsets so far: place of the last in 1/`GRID` beats, the clock there, its covariance.

    `score` is the log likelihood; `fit` what of it does not depend on how much time passed between the onsets.
    """

    place: int
    time: float
    beat: float
    var_time: float
    covar: float
    var_beat: float
    score: float
    fit: float
    before: _Reading | None


def quantise(played: Performance) -> list[ScoreNote]:
    """Return the notes on the grid of beats, by onset; the first beat is the file's, or that of the first note."""
    exact = _exact([note.onset for note in played.notes], played.ticks)
    onsets = exact or _tracked(played)
    offsets = _exact([note.offset for note in played.notes], played.ticks) if exact else None
    offsets = offsets or _released(played, onsets)
    found = [
        ScoreNote(onset, offset - onset, note.midi, note.part)
        for note, onset, offset in zip(played.notes, onsets, offsets, strict=True)
    ]
    return sorted(note for note in found if note.duration > 0)


def _exact(times: Sequence[int], ticks: int) -> list[Fraction] | None:
    """Return times in quarters where the file's ticks lie on a grid, strays rounded; None where they do not."""
    found = [_on_grid(time, ticks) for time in times]
    if sum(place is not None for place in found) < _EXACT_SHARE * len(found):
        return None
    return [
        Fraction(round(time * GRID / ticks), GRID) if place is None else place
        for time, place in zip(times, found, strict=True)
    ]


def _on_grid(time: int, ticks: int) -> Fraction | None:
    for denominator in _DENOMINATORS:
        if denominator > 1 and ticks < _FEWEST_TICKS * denominator:
            continue
        place = round(time * denominator / ticks)
        if abs(time * denominator - place * ticks) <= denominator / 2:
            return Fraction(place, denominator)
    return None


# --- onsets ----------------------------------------------------------------------------------------------------------


def _tracked(played: Performance) -> list[Fraction]:
    """Return each note's onset in beats by the likeliest reading."""
    scale = played.quarter / played.ticks
    together = _together(played.notes)
    times = [note.onset * scale for note in played.notes]
    best = _search(times, together, _first_beat(times, together, played.quarter))
    places: list[int] = []
    reading: _Reading | None = best
    while reading is not None:
        places.append(reading.place)
        reading = reading.before
    places.reverse()
    first = places[0] // GRID * GRID
    return [Fraction(place - first, GRID) for place in places]


def _together(notes: Sequence[Played]) -> list[bool]:
    """Whether each note may begin with the one before: it does not follow it in one voice."""
    found = [False]
    for before, note in pairwise(notes):
        sounding = before.offset - note.onset > (before.offset - before.onset) / 2
        found.append((sounding and before.midi != note.midi) or before.part != note.part)
    return found


def _first_beat(times: Sequence[float], together: Sequence[bool], given: float) -> float:
    """Return the seconds of a beat to begin with: the file's where it fits about as well as any other."""
    times, together = times[:_PROBE], together[:_PROBE]

    def fit(period: float) -> float:
        found = _search(times, together, period)
        unusual = _FAR * abs(math.log(period / _LIKELY_QUARTER))
        return (found.score + _NEXT_BEAT * (found.place // GRID)) / len(times) - unusual

    if _search(times, together, given).fit > _GOOD_FIT * len(times):
        return given
    ours = fit(given)
    fits = {period: fit(period) for period in _PERIODS}
    best = max(fits, key=lambda period: fits[period])
    return given if ours > fits[best] - _MARGIN else best


def _search(times: Sequence[float], together: Sequence[bool], beat: float) -> _Reading:
    """Return the likeliest reading of the onsets, given about how long a beat is."""
    variance = _JITTER**2
    beam = [
        _Reading(place, times[0], beat, variance, 0.0, (_DOUBT * beat) ** 2, _LOG_SHARE[place], 0.0, None)
        for place in (0, 6, 12, 18)
    ]
    for time, joins in zip(times[1:], together[1:], strict=True):
        found: dict[int, _Reading] = {}
        for reading in beam:
            for following in _followed(reading, time, joins):
                rival = found.get(following.place)
                if rival is None or following.score > rival.score:
                    found[following.place] = following
        beam = sorted(found.values(), key=lambda each: -each.score)[:_BEAM]
    return beam[0]


def _followed(reading: _Reading, time: float, joins: bool) -> Iterator[_Reading]:
    """Yield what the next onset may be: every place near enough in time, or the nearest one where none is."""
    passed = (time - reading.time) / reading.beat * GRID
    slack = _GATE * math.sqrt(reading.var_time + _JITTER**2) / reading.beat * GRID + 0.06 * abs(passed)
    low, high = max(0 if joins else 1, math.floor(passed - slack)), math.ceil(passed + slack)
    steps = [step for step in range(low, high + 1) if _may_follow(reading.place, step)]
    if not steps:
        steps = [step for step in range(1, high + 2 * GRID) if _may_follow(reading.place, step)][:1]
    return (_updated(reading, step, time) for step in steps)


@cache
def _may_follow_in_beat(place: int, after: int) -> bool:
    return any(place in grid and after in grid for grid in (_BINARY, _TERNARY))


def _may_follow(place: int, step: int) -> bool:
    """Whether an onset may stand so much later; within a beat both lie on its binary or its ternary grid."""
    start, after = place % GRID, (place + step) % GRID
    return after in _SHARE and (start + step >= GRID or _may_follow_in_beat(start, after))


def _updated(reading: _Reading, step: int, time: float) -> _Reading:
    """Return the reading with one more onset, `step` places later: a step of the Kalman filter."""
    beats = step / GRID
    beat = reading.beat
    var_time = reading.var_time + 2 * beats * reading.covar + beats**2 * reading.var_beat
    covar = reading.covar + beats * reading.var_beat
    drift = (_DRIFT * beat) ** 2 * beats
    var_beat, var_time = reading.var_beat + drift, var_time + drift * beats**2 / 3
    error = time - (reading.time + beats * beat)
    total = var_time + _JITTER**2
    gain_time, gain_beat = var_time / total, covar / total
    after = reading.place + step
    fit = (_LOG_SHARE[after % GRID] if step else 0.0) - error**2 / total / 2
    late = -math.log(total / _JITTER**2) / 2
    return _Reading(
        after,
        reading.time + beats * beat + gain_time * error,
        beat + gain_beat * error,
        var_time * (1 - gain_time),
        covar * (1 - gain_time),
        var_beat - gain_beat * covar,
        reading.score + fit + late,
        reading.fit + fit,
        reading,
    )


# --- offsets ---------------------------------------------------------------------------------------------------------


def _released(played: Performance, onsets: Sequence[Fraction]) -> list[Fraction]:
    """Return where each note ends: where the next of its part begins if that is about then, else on the grid."""
    scale = played.quarter / played.ticks
    placed = dict(zip(played.notes, onsets, strict=True))
    clock = _clock([note.onset * scale for note in played.notes], onsets)
    ends: dict[Played, Fraction] = {}
    for notes in by_part(played.notes).values():
        starts = sorted({placed[note] for note in notes})
        for note in notes:
            following = bisect_right(starts, placed[note])
            upper = starts[following] if following < len(starts) else None
            ends[note] = _end(note, placed[note], upper, clock, scale)
    return [ends[note] for note in played.notes]


def _end(
    note: Played,
    onset: Fraction,
    following: Fraction | None,
    clock: Callable[[float], tuple[float, float]],
    scale: float,
) -> Fraction:
    seconds = (note.offset - note.onset) * scale
    place, beat = clock(note.offset * scale)
    if following is not None and abs(place - float(following)) * beat < max(_LEGATO, 0.15 * seconds):
        return following
    near = round(place * GRID)
    choices = [each for each in range(near - 6, near + 7) if each % GRID in _SHARE and each > onset * GRID]
    if not choices:
        return onset + Fraction(1, 4)

    def cost(each: int) -> float:
        error = (place - each / GRID) * beat / (2 * _JITTER)
        return error**2 / 2 - _LOG_SHARE[each % GRID]

    return Fraction(min(choices, key=cost), GRID)


def _clock(times: Sequence[float], places: Sequence[Fraction]) -> Callable[[float], tuple[float, float]]:
    """Return a function of seconds that gives the place in beats there and a beat's seconds, by the onsets around."""
    ordered = sorted(zip(times, map(float, places), strict=True))
    seconds = [time for time, _ in ordered]

    def clock(time: float) -> tuple[float, float]:
        middle = bisect_right(seconds, time)
        around = ordered[max(0, middle - 6) : middle + 6]
        mean_time = sum(each for each, _ in around) / len(around)
        mean_place = sum(place for _, place in around) / len(around)
        spread = sum((place - mean_place) ** 2 for _, place in around)
        beat = sum((each - mean_time) * (place - mean_place) for each, place in around) / spread if spread else 0.0
        beat = beat if beat > 0 else _LIKELY_QUARTER
        return mean_place + (time - mean_time) / beat, beat

    return clock
