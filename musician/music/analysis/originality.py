"""How much of a melody stands in other tunes already, whatever their key and unit length.

Melodies are compared as `musician.music.analysis.family.melody` has them: a step is the interval to the next note
and the ratio of the two times. What is shared is therefore a run of steps, one note longer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import MelodyNote, melody, melody_notes, step_codes, steps_between
from musician.music.analysis.melody_index import Codes, Places, RunIndex

SEED = 8
"""Steps in a row by which shared runs are found; shorter ones are common property and count as none."""
BARS = 8
"""Bars in a window."""
_MOST_NOTES = 5_000
"""Of a longer melody only the beginning is compared."""


@dataclass(frozen=True, slots=True)
class Originality:
    """What a tune shares with the indexed ones.

    Attributes:
        notes: notes of the tune that were compared.
        run: notes in the longest run it shares with one of them; 0 below `SEED` + 1.
        nearest: place of that tune in the index; None where nothing is shared.
        windows: windows of `BARS` bars, as written, with at least `SEED` steps.
        copied: how many of those stand whole in an indexed tune.
    """

    notes: int
    run: int
    nearest: int | None
    windows: int
    copied: int

    @property
    def share(self) -> float:
        """The longest shared run as a share of the tune."""
        return self.run / self.notes if self.notes else 0.0


class MelodyIndex:
    """The melodies of many tunes, 24 bytes a note.

    Args:
        tunes: ABC texts; of each its first tune.
    """

    def __init__(self, tunes: Iterable[str]) -> None:
        self._index = RunIndex([step_codes(melody(parse_tune(text))) for text in tunes], SEED)

    def __len__(self) -> int:
        return len(self._index)

    def compare(self, text: str) -> Originality:
        """Compare the first tune of a text with all of the index; exact for shared runs of at least `SEED` steps."""
        tune = parse_tune(text)
        notes = melody_notes(tune)[:_MOST_NOTES]
        codes = step_codes(steps_between(notes))
        begins, places, lengths = self._runs(codes)
        windows, copied = _windows(tune, notes, _reach(begins, lengths, len(codes)))
        if not len(lengths):
            return Originality(len(notes), 0, None, windows, copied)
        best = int(lengths.argmax())
        nearest = int(self._index.owners(places[best]))
        return Originality(len(notes), int(lengths[best]) + 1, nearest, windows, copied)

    def _runs(self, codes: Codes) -> tuple[Places, Places, Places]:
        """Return where runs shared with the index begin, here and there, and how many steps they go on.

        None of them could begin earlier.
        """
        known = self._index.codes
        begins, places = self._index.find(codes)
        earlier = (begins > 0) & (places > 0) & (codes[begins - 1] == known[places - 1])
        begins, places = begins[~earlier], places[~earlier]
        lengths = np.zeros(len(begins), np.int64)
        going = np.arange(len(begins))
        while len(going):
            here, there = begins[going] + lengths[going], places[going] + lengths[going]
            inside = here < len(codes)
            going, here, there = going[inside], here[inside], there[inside]
            going = going[codes[here] == known[there]]
            lengths[going] += 1
        whole = lengths >= SEED  # unequal steps of equal hash, of which none are to be expected
        return begins[whole], places[whole], lengths[whole]


def _reach(begins: Places, lengths: Places, count: int) -> Places:
    """Up to where the shared runs go that have begun by each step, `[steps]`."""
    ends = np.zeros(count, np.int64)
    np.maximum.at(ends, begins, begins + lengths)
    return np.maximum.accumulate(ends)


def _windows(tune: Tune, notes: Sequence[MelodyNote], reach: Places) -> tuple[int, int]:
    """Count the windows of bars, and those whose steps all stand in one shared run."""
    starts = [note.start for note in notes]
    firsts = [bisect_left(starts, bar.start) for bar in tune.bars]
    ends = [bisect_left(starts, bar.end) for bar in tune.bars]
    spans = [(first, end - 1) for first, end in zip(firsts, ends[BARS - 1 :], strict=False) if end - 1 - first >= SEED]
    return len(spans), sum(int(reach[first]) >= end for first, end in spans)
