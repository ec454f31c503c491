"""What is asked of real tunes."""

import random
import re
from collections.abc import Sequence

from musician.music.abc.elements import Bar, Tune
from musician.music.abc.key import Key
from musician.music.abc.lexer import NOTE_PARTS
from musician.music.abc.pitch import ACCIDENTALS
from musician.music.edit import excerpt
from musician.music.theory.draws import Draft
from musician.music.theory.scale import keys

FARTHEST = {1: 14, 2: 6, 3: 4}
"""How many fifths a wrong key may be off."""


def key_of_tune(tune: Tune, rng: random.Random, difficulty: int) -> Draft | None:
    """Ask which key fits bars whose signature is written out; each wrong one is at odds with a note of them.

    The bars hold all seven letters and no accidental foreign to the key, so only one signature fits.
    """
    key = tune.key
    if not key.plain or abs(key.sharps) > 7:
        return None
    bars = next((run for length in (2, 4, 6, 8) if _tells(run := excerpt.pick_run(tune, length, rng))), None)
    if bars is None:
        return None
    modes = ("maj", "min") if difficulty < 3 else ("maj", "min", "dor", "mix")
    other = [
        each.name for mode in modes for each in keys(mode) if 0 < abs(each.sharps - key.sharps) <= FARTHEST[difficulty]
    ]
    question = "The key of these bars was left out and its accidentals written at the notes. Which key fits every note?"
    music = " | ".join(_written_out(bar.text, key) for bar in bars)
    return Draft(f"{question}\nM:{tune.meter}\nL:{tune.unit}\nK:none\n| {music} |", key.name, other)


def _tells(bars: Sequence[Bar]) -> bool:
    """Whether the bars hold every letter and no accidental."""
    music = " ".join(bar.text for bar in bars)
    heads = NOTE_PARTS.findall(music)
    return {head[1].upper() for head in heads} == set("ABCDEFG") and not set(music) & set("^_=")


def _written_out(text: str, key: Key) -> str:
    """Return a bar with the signature's accidentals at every note."""

    def with_accidental(found: re.Match[str]) -> str:
        alter = key.alterations.get(found[2].upper(), 0)
        return (ACCIDENTALS[alter] if alter else "") + found[0]

    return re.sub(r"\s+", " ", NOTE_PARTS.sub(with_accidental, text))


TOPICS = {"key_of_tune": key_of_tune}
