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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.analysis.melody_index import RunIndex

Step = tuple[int, Fraction]
RUN = 16
"""Steps in a row that make two tunes one family. Over the 4,433 default tunes the largest family holds 808 with 12, 26
with 14, 10 with 16 (0.2 %) and 6 with 20; of 607 pairs of one title 56, 53, 49 and 46 % are joined."""
MOVES = 20
"""Changes of pitch in a row that do so whatever their rhythm: with them 52 % are joined, the largest still 10."""


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
    names = np.array([_name(steps, text) for steps, text in zip(melodies, texts, strict=True)])
    _, first, same = np.unique(names, return_index=True, return_inverse=True)
    joined = [
        np.stack([np.arange(len(texts)), first[same]], axis=1),
        RunIndex([step_codes(steps) for steps in melodies], run).shared(),
        RunIndex([step_codes(_moves(steps)) for steps in melodies], moves).shared(),
    ]
    one, other = np.concatenate(joined).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(texts), len(texts)))
    _, family = connected_components(graph, directed=False)
    # Of each family the first in the order of names has the smallest.
    order = np.argsort(names, kind="stable")
    _, smallest = np.unique(family[order], return_index=True)
    return names[order][smallest][family].tolist()


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
