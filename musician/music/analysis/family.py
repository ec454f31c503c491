"""Tune families: which texts hold one melody, whatever its key, title, unit length, bars or line breaks.

Training and validation are parted by family, so that no melody is on both sides.
"""

import hashlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from musician.music.abc.reader import Tune, parse_tune

Step = tuple[int, Fraction]
RUN = 16
"""Steps in a row that make two tunes one family. Over the 4,433 default tunes the largest family holds 808 with 12, 26
with 14, 10 with 16 (0.2 %) and 6 with 20; of 607 pairs of one title 56, 53, 49 and 46 % are joined."""
MOVES = 20
"""Changes of pitch in a row that do so whatever their rhythm: with them 52 % are joined, the largest still 10."""

_MULTIPLIERS = np.random.default_rng(20240225).integers(1, 2**63, size=1024, dtype=np.uint64) | np.uint64(1)


def melody(tune: Tune) -> list[Step]:
    """Return the melody as steps: semitones to the next note, and the ratio of their times.

    Times run from onset to onset, so rests belong to the note before; tied notes are one; of a chord the first note
    counts; voices follow one another as written. Transposition, unit length, bars and repeat signs leave no trace.
    """
    return steps_between(melody_notes(tune))


class MelodyNote(NamedTuple):
    """A note of a melody: pitch as in `Note.midi`, time to the next onset in whole notes, place in the tune's text."""

    midi: int
    time: Fraction
    start: int


def melody_notes(tune: Tune) -> list[MelodyNote]:
    """Return the notes between which `melody` steps: ties joined, rests given to the note before."""
    found: list[MelodyNote] = []
    tied = False
    for note in tune.notes:
        if note.stacked:
            continue
        joins = note.midi is None or (tied and found and found[-1].midi == note.midi)
        if joins and found:
            found[-1] = found[-1]._replace(time=found[-1].time + note.duration)
        elif note.midi is not None:
            found.append(MelodyNote(note.midi, note.duration, note.start))
        tied = note.tie
    return found


def steps_between(notes: Sequence[MelodyNote]) -> list[Step]:
    """Return the steps from each note to the next."""
    return [(after.midi - before.midi, after.time / before.time) for before, after in pairwise(notes)]


def fingerprint(text: str) -> str:
    """Return 32 hex digits that name the melody of a text's first tune, alike for all its transpositions.

    Defined for any text: one with fewer than two notes is named by its words, white space evened out.
    """
    return _name(melody(parse_tune(text)), text)


def families(texts: Sequence[str], run: int = RUN, moves: int = MOVES) -> list[str]:
    """Return the family of each text: the smallest fingerprint among the texts it is joined with.

    Texts are joined when their melodies share `run` steps in a row, or `moves` changes of pitch in a row whatever the
    rhythm, or a fingerprint; so the answer does not depend on their order. A melody shorter than that joins only with
    its equals.
    """
    melodies = [melody(parse_tune(text)) for text in texts]
    names = [_name(steps, text) for steps, text in zip(melodies, texts, strict=True)]
    parents = list(range(len(texts)))
    _join_equal(parents, names)
    _join_shared(parents, [np.unique(run_hashes(step_codes(steps), run)) for steps in melodies])
    _join_shared(parents, [np.unique(run_hashes(step_codes(_moves(steps)), moves)) for steps in melodies])
    smallest: dict[int, str] = {}
    for place, name in enumerate(names):
        root = _root(parents, place)
        smallest[root] = min(smallest.get(root, name), name)
    return [smallest[_root(parents, place)] for place in range(len(texts))]


def _name(steps: list[Step], text: str) -> str:
    spelled = ";".join(f"{interval},{ratio}" for interval, ratio in steps) if steps else " ".join(text.split())
    kind = "melody" if steps else "text"
    return hashlib.sha256(f"{kind}:{spelled}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _moves(steps: list[Step]) -> list[Step]:
    """Return the steps that change pitch, without their rhythm."""
    return [(interval, Fraction(1)) for interval, _ in steps if interval]


@cache
def _code(interval: int, above: int, below: int) -> int:
    """Return 64 well-mixed bits for a step, the same in every process."""
    return int.from_bytes(hashlib.blake2b(f"{interval},{above},{below}".encode(), digest_size=8).digest(), "little")


def step_codes(steps: Iterable[Step]) -> NDArray[np.uint64]:
    """Return 64 bits for each step, `[steps]`."""
    return np.array([_code(interval, ratio.numerator, ratio.denominator) for interval, ratio in steps], np.uint64)


def run_hashes(codes: NDArray[np.uint64], run: int) -> NDArray[np.uint64]:
    """Return one 64-bit hash for each run of so many codes, `[codes - run + 1]`."""
    if len(codes) < run:
        return np.empty(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, run)
    return (windows * _MULTIPLIERS[:run]).sum(axis=1, dtype=np.uint64)


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _join(parents: list[int], one: int, other: int) -> None:
    one, other = _root(parents, one), _root(parents, other)
    parents[max(one, other)] = min(one, other)


def _join_equal(parents: list[int], names: list[str]) -> None:
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        _join(parents, first.setdefault(name, place), place)


def _join_shared(parents: list[int], hashes: list[NDArray[np.uint64]]) -> None:
    """Join every two texts that have a hash in common, by sorting all hashes and looking at neighbours."""
    if not hashes:
        return
    owners = np.repeat(np.arange(len(hashes)), [len(each) for each in hashes])
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    joined, owners = joined[order], owners[order]
    same = joined[1:] == joined[:-1]
    pairs = np.unique(np.stack([owners[:-1][same], owners[1:][same]], axis=1), axis=0)
    for one, other in pairs.tolist():
        _join(parents, one, other)
