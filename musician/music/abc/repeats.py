"""In which order a tune's bars sound: repeats, endings, da capo and the order of parts written out."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from musician.music.abc.elements import Bar, Tune

MOST_BARS = 20_000
"""A voice's playing order is cut after so many bars, and says so."""
_ORDER = re.compile(r"[A-Z]|[0-9]+|[()]", re.ASCII)
_NUMBERS = re.compile(r"([0-9]+)(?:-([0-9]+))?", re.ASCII)
_MOST_TIMES = 16
_BACK = frozenset(("D.C.", "D.S."))
_DOUBLE = ("||", "|]", "[|")


class PlayingOrder(NamedTuple):
    """The bars of one voice as they sound; `cut` says that the order was longer than `MOST_BARS`."""

    bars: tuple[Bar, ...]
    cut: bool


def playing_order(tune: Tune) -> dict[str, PlayingOrder]:
    """Return each voice's bars as they sound: repeats and endings taken, parts in the order of the header's `P:`.

    A repeat goes back to the last `|:` or `::`; where none opened it, to the last double bar line or the end of the
    last repeated section, else to the start (ABC standard 2.1, 4.8). `!D.C.!` goes back to the start and `!D.S.!` to
    the `!segno!`; from there each section is played once, with its last ending, up to the bar with `!fine!` or the one
    that sent it back; a voice without such signs goes by those of another. Where the parts have an order these signs
    are not followed, and codas never.
    """
    voices = tune.voices
    leader = next((bars for bars in voices.values() if any(_BACK & set(bar.jumps) for bar in bars)), ())
    signs = [frozenset(bar.jumps) for bar in leader]
    return {voice: _arranged(bars, tune.field("P"), signs) for voice, bars in voices.items()}


def endings(text: str) -> frozenset[int]:
    """Return the passes an ending's number stands for: `1,3` and `1-3`; none for a text."""
    found: set[int] = set()
    for first, last in _NUMBERS.findall(text[:40]):
        low = min(int(first[:4]), _MOST_TIMES)
        found.update(range(low, min(int((last or first)[:4]), _MOST_TIMES) + 1))
    return frozenset(found)


def _arranged(bars: Sequence[Bar], order: str, signs: Sequence[frozenset[str]]) -> PlayingOrder:
    """Put bars in order; `signs` are those of each bar's number."""
    letters = _parts_in_order(order)
    labels = {bar.part for bar in bars}
    if not letters or not labels & set(letters):
        return _cut(_navigated(bars, signs))
    found: list[Bar] = list(_expanded([bar for bar in bars if not bar.part]))
    sections = {label: _expanded([bar for bar in bars if bar.part == label]) for label in labels if label}
    for letter in letters:
        found += sections.get(letter, ())
        if len(found) > MOST_BARS:
            break
    return _cut(found)


def _cut(bars: Sequence[Bar]) -> PlayingOrder:
    return PlayingOrder(tuple(bars[:MOST_BARS]), len(bars) > MOST_BARS)


def _parts_in_order(order: str) -> str:
    """Write out an order of parts such as `A(BC)2A3`, without recursion, to at most `MOST_BARS` letters."""
    stack = [""]
    last = ""
    for sign in _ORDER.findall(order.replace(".", " ")[:1000]):
        if sign == "(":
            stack.append("")
            last = ""
        elif sign == ")":
            last = stack.pop() if len(stack) > 1 else ""
            stack[-1] = (stack[-1] + last)[:MOST_BARS]
        elif sign.isdigit():
            times = min(int(sign[:4]), _MOST_TIMES)
            stack[-1] = (stack[-1] + last * (times - 1))[:MOST_BARS]
        else:
            last = sign
            stack[-1] = (stack[-1] + sign)[:MOST_BARS]
    return "".join(stack)[:MOST_BARS]


def _navigated(bars: Sequence[Bar], signs: Sequence[frozenset[str]]) -> list[Bar]:
    """Write out repeats, and after the first `D.C.` or `D.S.` what follows from it."""
    back = next((place for place, found in enumerate(signs) if _BACK & found), None)
    if back is None:
        return _expanded(bars)
    marked = (place for place, found in enumerate(signs) if "segno" in found)
    start = next(marked, 0) if "D.S." in signs[back] else 0
    fine = next((place for place in range(start, back) if "fine" in signs[place]), back)
    return _expanded(bars[: back + 1]) + _once(bars[start : fine + 1])


def _once(bars: Sequence[Bar]) -> list[Bar]:
    """Take each section once, of its endings the last."""
    found: list[Bar] = []
    place = 0
    while place < len(bars):
        stop = _ending_stop(bars, place)
        if bars[place].ending and stop < len(bars) and bars[stop].ending:
            place = stop
            continue
        found.append(bars[place])
        place += 1
    return found


def _expanded(bars: Sequence[Bar]) -> list[Bar]:
    """Write out repeats and endings, in time linear in what is written out."""
    found: list[Bar] = []
    start = place = until = 0
    turn, highest = 1, 0
    numbers: frozenset[int] = frozenset()
    while place < len(bars) and len(found) <= MOST_BARS:
        bar = bars[place]
        if place != start and _begins_section(bar, opened=bars[start].opening.endswith(":")):
            start, turn, highest, numbers = place, 1, 0, frozenset()
        if bar.ending:
            numbers, until = endings(bar.ending), _ending_stop(bars, place)
            highest = max(highest, *numbers, 0)
            if numbers and turn not in numbers:
                place, numbers = until, frozenset()
                continue
        found.append(bar)
        place += 1
        closed = _colons(bars, place) > 0
        if closed and turn < _passes(bars, place, highest):
            turn, place, numbers = turn + 1, start, frozenset()
        elif closed or (numbers and place >= until):
            start, turn, highest, numbers = place, 1, 0, frozenset()
    return found


def _begins_section(bar: Bar, opened: bool) -> bool:
    """Whether a repeat that closes later goes back to this bar; a double bar is none while a `|:` is open."""
    double = not opened and not bar.ending and any(line in bar.opening for line in _DOUBLE)
    return bar.opening.endswith(":") or double


def _passes(bars: Sequence[Bar], place: int, highest: int) -> int:
    """Return how often the section that closes before `place` is played: by its colons and its endings."""
    colons = _colons(bars, place)
    for _ in range(_MOST_TIMES if highest else 0):
        if place >= len(bars) or not bars[place].ending:
            break
        highest = max(highest, *endings(bars[place].ending), 0)
        place = _ending_stop(bars, place)
    return max(min(colons, _MOST_TIMES) + 1, highest)


def _colons(bars: Sequence[Bar], place: int) -> int:
    """Return how many colons close a repeat before `place`: 1 for `:|` and `::`, 2 for `::|`, 0 for none."""
    line = bars[place - 1].barline
    if place < len(bars) and bars[place].opening.startswith(f"{line} "):
        line = bars[place].opening  # a repeat sign of its own after the bar line, as `| :|`
    return max(len(each) - len(each.lstrip(":")) if each.strip(":") else 1 for each in line.split() or ["|"])


def _ending_stop(bars: Sequence[Bar], place: int) -> int:
    """Return the place after the last bar of the ending that begins at `place`."""
    while place < len(bars):
        line = bars[place].barline
        place += 1
        if line.startswith(":") or line.endswith(":") or line in _DOUBLE or (place < len(bars) and bars[place].ending):
            break
    return place
