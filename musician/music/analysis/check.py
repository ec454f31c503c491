"""Does a tune add up? Its header, and the length of every bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.meter import parse_meter, parse_unit
from musician.music.abc.repeats import playing_order

_SHOWN_SIGNS = 40
_SECTION = ("||", "|]", "[|")


@dataclass(frozen=True)
class BarFault:
    """A bar that lasts neither as long as its meter says nor completes one: the `bar`-th of its `voice`, from 1."""

    voice: str
    bar: int
    duration: Fraction
    expected: Fraction
    start: int
    end: int

    def __str__(self) -> str:
        where = f"bar {self.bar}" + (f" of voice {self.voice}" if self.voice else "")
        return f"{where} lasts {self.duration} of a whole note, its meter says {self.expected}"


def check_header(tune: Tune) -> list[str]:
    """Return what is wrong with the header: `X:` or `K:` missing, `X:` not first, a meter or unit that is none."""
    letters = [name for name, _ in tune.fields]
    faults = [f"no {name}: field" for name in "XK" if name not in letters]
    if "X" in letters and letters[0] != "X":
        faults.append("X: is not the first field")
    if "K" in letters and letters[-1] != "K":
        faults.append("K: is not the last field")
    meter, unit = tune.field("M"), tune.field("L")
    if meter and parse_meter(meter) is None and meter.strip().lower() != "none":
        faults.append(f"M:{meter[:40]} is no meter")
    if unit and parse_unit(unit) is None:
        faults.append(f"L:{unit[:40]} is no unit length")
    return faults


def check_tune(tune: Tune) -> list[str]:
    """Return what is wrong besides bars: the header, signs that are no ABC, repeats without a reasonable end."""
    faults = check_header(tune)
    signs = [element.text for element in tune.elements if element.kind == "unread"]
    if signs:
        shown = " ".join(signs)[:_SHOWN_SIGNS]
        faults.append(f"{len(signs)} {'sign is' if len(signs) == 1 else 'signs are'} no ABC and skipped: {shown}")
    if any(order.cut for order in playing_order(tune).values()):
        faults.append("with its repeats and parts the tune is too long to play")
    return faults


def check_bars(tune: Tune) -> list[BarFault]:
    """Return the bars that do not add up, voice by voice.

    A bar is right that lasts as its meter says, or whole multiples of it with a rest of several bars (`Z4`), or stands
    in free meter. A shorter one is right where the music may be divided: at the start (a pick-up), at the end, and at a
    repeat, ending or double bar. Where such a bar line parts a bar both pieces must not exceed a bar.
    """
    return [fault for voice, bars in tune.voices.items() for fault in _voice_faults(tune, voice, bars)]


def counted_bars(tune: Tune) -> int:
    """Return how many bars stand in a meter, so that `check_bars` may find fault with them."""
    return sum(bar.meter is not None for bar in tune.bars)


def _voice_faults(tune: Tune, voice: str, bars: Sequence[Bar]) -> list[BarFault]:
    faults = []
    for place, bar in enumerate(bars):
        if bar.meter is None or bar.duration == bar.meter.duration or _long_rest(tune, bar):
            continue
        short = bar.duration < bar.meter.duration
        if not (short and (_divided_before(bars, place) or _divided_after(bars, place))):
            faults.append(BarFault(voice, place + 1, bar.duration, bar.meter.duration, bar.start, bar.end))
    return faults


def _divided_before(bars: Sequence[Bar], place: int) -> bool:
    return place == 0 or bool(bars[place].ending) or _divides(bars[place].opening)


def _divided_after(bars: Sequence[Bar], place: int) -> bool:
    return place + 1 == len(bars) or bool(bars[place + 1].ending) or _divides(bars[place].barline)


def _divides(barline: str) -> bool:
    return ":" in barline or not barline or any(sign in barline for sign in _SECTION)


def _long_rest(tune: Tune, bar: Bar) -> bool:
    assert bar.meter is not None
    rests = len(bar.notes) == 1 and tune.text[bar.notes[0].start] in "ZX"
    return rests and (bar.duration / bar.meter.duration).denominator == 1
