"""What may stand in a header field, a note or a chord symbol: the finite parts of the grammar (ABC standard 2.1)."""

from __future__ import annotations

from fractions import Fraction
from itertools import takewhile
from typing import NamedTuple

from musician.music.abc.key import parse_key
from musician.music.abc.meter import parse_meter
from musician.music.abc.pitch import SHARP_ORDER
from musician.music.grammar.words import Words, plain_words

TICKS = 4
"""Ticks of a unit note length: the shortest note is a quarter of it. Sums of ticks are exact."""

TEXT_FIELDS = "TRCO"
TEXT_LENGTH = 48
TEXT_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ',.-()!?")

METERS = {
    name: meter
    for name in ["C", "C|", "2/4", "3/4", "4/4", "5/4", "6/4", "2/2", "3/2", "3/8", "5/8", "6/8", "7/8", "9/8", "12/8"]
    if (meter := parse_meter(name))
}
UNITS = {name: Fraction(name) for name in ("1/4", "1/8", "1/16")}

_MODES = ("", "maj", " major", "m", "min", " minor", "dor", "mix", "phr", "lyd", "aeo")
KEYS = tuple(
    name
    for letter in SHARP_ORDER
    for sign in ("", "#", "b")
    for mode in _MODES
    if abs(parse_key(name := letter + sign + mode).sharps) <= 7
)

TEMPI = tuple(f"{beat}={number}" for beat in ("1/4", "3/8", "1/2", "1/8") for number in range(40, 241))
REFERENCES = tuple(str(number) for number in range(1, 1000))

ACCIDENTALS = "^_="
TIE = "-"

PITCHES = plain_words(
    accidental + letter + marks
    for accidental in ("", "^", "_", "=", "^^", "__")
    for letters, octave in (("CDEFGAB", ","), ("cdefgab", "'"))
    for letter in letters
    for marks in ("", octave, 2 * octave)
)

_CHORD_KINDS = ("", "m", "7", "m7", "maj7", "dim", "aug", "6", "sus4")
CHORD_NAMES = plain_words(
    '"' + letter + sign + kind + bass + '"'
    for letter in "ABCDEFG"
    for sign in ("", "#", "b")
    for kind in _CHORD_KINDS
    for bass in ("", *("/" + note for note in "ABCDEFG"))
)

LENGTHS = Words(
    {
        **{"": TICKS, "/": 2, "//": 1, "/2": 2, "/4": 1},
        **{str(number): TICKS * number for number in range(2, 25)},
        **{f"{number}/2": 2 * number for number in range(3, 16, 2)},
        **{f"{number}/4": number for number in range(3, 16, 2)},
    }
)
"""Ticks of what may follow a note."""

REACH = {prefix: frozenset(LENGTHS.meanings[word] for word in words) for prefix, words in LENGTHS.extensions.items()}
"""Ticks of every length that begins with these characters."""


_IN_TUPLETS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Ticks of notes in tuplets: those that are one plain or dotted note."""


def _sums(notes: int) -> tuple[int, ...]:
    """Ticks that so many notes of a tuplet can have together, ascending."""
    totals = {0}
    for _ in range(notes):
        totals = {total + ticks for total in totals for ticks in _IN_TUPLETS}
    return tuple(sorted(totals))


_SUMS = tuple(_sums(notes) for notes in range(10))


class Tuplet(NamedTuple):
    """A tuplet in progress: `p` in the time of `q`, `notes` still to come, `written` ticks so far before scaling."""

    p: int
    q: int
    notes: int
    written: int = 0

    def fits(self, ticks: int, left: int) -> bool:
        """Whether the next note may have this length and the tuplet still end on a whole number of ticks in the bar."""
        return ticks in _IN_TUPLETS and Tuplet(self.p, self.q, self.notes - 1, self.written + ticks).possible(left)

    def possible(self, left: int) -> bool:
        """Whether the rest of it can be written in `left` ticks."""
        most = left * self.p
        totals = (self.q * (self.written + total) for total in _SUMS[self.notes])
        return any(total % self.p == 0 for total in takewhile(lambda total: total <= most, totals))


_DEFAULT_Q = {2: 3, 3: 2, 4: 3, 6: 2}
_EXPLICIT = ((2, 3, 2), (3, 2, 2), (3, 2, 3), (3, 2, 4), (4, 3, 4), (5, 4, 5), (6, 4, 6), (7, 4, 7))


def odd_time(meter: str) -> int:
    """How many notes' time 5, 7 or 9 notes stand in when a tuplet does not say (ABC standard 2.1, 4.13).

    0 in the meters of three beats, which abc2midi reads as compound and the standard does not.
    """
    return 0 if meter.startswith("3/") else 3 if METERS[meter].compound else 2


def _tuplets(odd: int) -> Words[Tuplet]:
    short = {f"({p}": Tuplet(p, q, p) for p, q in {**_DEFAULT_Q, **({5: odd, 7: odd, 9: odd} if odd else {})}.items()}
    long = {f"({p}:{q}:{r}": Tuplet(p, q, r) for p, q, r in _EXPLICIT}
    return Words({**short, **long, "(3:2": Tuplet(3, 2, 3)})


TUPLETS = {odd: _tuplets(odd) for odd in (0, 2, 3)}
"""Openings of tuplets, by `odd_time`."""
