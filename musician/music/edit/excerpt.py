"""Short excerpts of a tune that mean alone what they mean in the tune."""

import random
import re
from collections.abc import Sequence

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.reader import parse_tune

_PLAIN = re.compile(r"[A-Ga-gz0-9/'^_=,()<> ]+")


def header(tune: Tune, meter: bool = True) -> str:
    """Return the fields an excerpt needs, each line ended: `M:` if asked for, `L:`, `K:`."""
    shown = f"M:{tune.meter or 'none'}\n" if meter else ""
    return f"{shown}L:{tune.unit}\nK:{tune.key.abc}\n"


def music(bars: Sequence[Bar]) -> str:
    """Return the bars as written, between single bar lines."""
    return "| " + " | ".join(re.sub(r"\s+", " ", bar.text) for bar in bars) + " |"


def pick_run(tune: Tune, length: int, rng: random.Random) -> list[Bar]:
    """Return so many plain bars in a row, chosen at random; an empty list when the tune has no such run.

    Plain bars hold nothing but notes and rests, in the key, meter and unit of the header, and are full.
    """
    if tune.meter is None or not tune.key.plain:
        return []
    plain = [_is_plain(bar, tune) for bar in tune.bars]
    starts = [start for start in range(len(plain) - length + 1) if all(plain[start : start + length])]
    rng.shuffle(starts)
    runs = (list(tune.bars[start : start + length]) for start in starts)
    return next((run for run in runs if _stands_alone(run, tune)), [])


def _is_plain(bar: Bar, tune: Tune) -> bool:
    return (
        _PLAIN.fullmatch(bar.text) is not None
        and (bar.key, bar.meter, bar.unit) == (tune.key, tune.meter, tune.unit)
        and tune.meter is not None
        and bar.duration == tune.meter.duration
    )


def _stands_alone(run: list[Bar], tune: Tune) -> bool:
    """Whether the bars read alone as they do in the tune: no tie, tuplet or broken rhythm reaches into them."""
    alone = parse_tune(header(tune) + music(run)).bars
    return [bar.notes for bar in alone] == [bar.notes for bar in run]
