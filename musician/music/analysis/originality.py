"""How much of a melody stands in other tunes already, whatever their key and unit length.

Melodies are compared as `musician.music.analysis.family.melody` has them: a step is the interval to the next note
and the ratio of the two times. What is shared is therefore a run of steps, one note longer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musician.music.abc.reader import Tune, parse_tune
from musician.music.analysis.family import MelodyNote, melody, melody_notes, run_hashes, step_codes, steps_between

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
    """The melodies of many tunes, 32 bytes a note.

    Args:
        tunes: ABC texts; of each its first tune.
    """

    def __init__(self, tunes: Iterable[str]) -> None:
        melodies = [step_codes(melody(parse_tune(text))) for text in tunes]
        self._starts = np.cumsum([0, *(len(codes) + 1 for codes in melodies)])
        # A zero, which is no step's code, parts each melody from the next.
        self._codes = np.concatenate([np.append(codes, np.uint64(0)) for codes in melodies] or [np.zeros(1, np.uint64)])
        hashes = run_hashes(self._codes, SEED)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def compare(self, text: str) -> Originality:
        """Compare the first tune of a text with all of the index; exact for shared runs of at least `SEED` steps."""
        tune = parse_tune(text)
        notes = melody_notes(tune)[:_MOST_NOTES]
        codes = step_codes(steps_between(notes))
        begins, places = self._runs(codes)
        lengths = self._lengths(codes, begins, places)
        whole = lengths >= SEED  # of equal hashes of unequal steps there are none to be expected, and none is believed
        begins, places, lengths = begins[whole], places[whole], lengths[whole]
        windows, copied = _windows(tune, notes, _reach(begins, lengths, len(codes)))
        if not len(lengths):
            return Originality(len(notes), 0, None, windows, copied)
        best = int(lengths.argmax())
        owner = int(np.searchsorted(self._starts, places[best], side="right")) - 1
        return Originality(len(notes), int(lengths[best]) + 1, owner, windows, copied)

    def _runs(self, codes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where runs shared with the index begin, here and there; none that could begin earlier."""
        hashes = run_hashes(codes, SEED)
        low = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - low
        begins = np.repeat(np.arange(len(hashes)), counts)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = self._order[np.repeat(low, counts) + nth]
        earlier = (begins > 0) & (places > 0) & (codes[begins - 1] == self._codes[places - 1])
        return begins[~earlier], places[~earlier]

    def _lengths(
        self, codes: NDArray[np.uint64], begins: NDArray[np.int64], places: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How many steps each run goes on."""
        lengths = np.zeros(len(begins), np.int64)
        going = np.arange(len(begins))
        while len(going):
            here, there = begins[going] + lengths[going], places[going] + lengths[going]
            inside = here < len(codes)
            going, here, there = going[inside], here[inside], there[inside]
            going = going[codes[here] == self._codes[there]]
            lengths[going] += 1
        return lengths


def _reach(begins: NDArray[np.int64], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Up to where the shared runs go that have begun by each step, `[steps]`."""
    ends = np.zeros(count, np.int64)
    np.maximum.at(ends, begins, begins + lengths)
    return np.maximum.accumulate(ends)


def _windows(tune: Tune, notes: Sequence[MelodyNote], reach: NDArray[np.int64]) -> tuple[int, int]:
    """Count the windows of bars, and those whose steps all stand in one shared run."""
    starts = [note.start for note in notes]
    firsts = [bisect_left(starts, bar.start) for bar in tune.bars]
    ends = [bisect_left(starts, bar.end) for bar in tune.bars]
    spans = [(first, end - 1) for first, end in zip(firsts, ends[BARS - 1 :], strict=False) if end - 1 - first >= SEED]
    return len(spans), sum(int(reach[first]) >= end for first, end in spans)
