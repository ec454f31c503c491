"""What the grammar is worth: `make bench-grammar`.

A network with random weights writes tunes at temperature 1.5, held to the grammar and free. abc2midi and music21, which
share nothing with the grammar, judge them; the time that masks take is measured while they are written.

    python bench/grammar.py [--tokenizer TOKENIZER] [--tunes N] [--new-tokens N] [--free N]

TOKENIZER is `bytes` or anything with a tokenizer.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import load_tokenizer
from musician.generation.constraint import GrammarConstraint
from musician.generation.decoder import Decoder
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel
from musician.model.network import random_llama
from musician.music.abc.reader import parse_tune
from musician.music.analysis.measures import measure_format
from musician.music.grammar import State, TuneConstraints
from musician.music.sound.abc2midi import Abc2midi

SAMPLING = Sampling(temperature=1.5, top_k=0, top_p=1.0)

#: What must occur among the tunes for the figures to say something about it.
FEATURES = {
    "two voices": r"(?m)^V:2",
    "pick-up": r"",
    "tie": r"-",
    "tie over a bar line": r"- ?\|",
    "slur": r"\([^0-9]",
    "tuplet": r"\([0-9]",
    "broken rhythm": r"[<>]",
    "chord": r"\[[^|]",
    "grace notes": r"\{",
    "chord symbol": r'"',
    "repeat": r":\||::",
    "endings": r":\|2",
    "accidental": r"[\^_=]",
}


class Timed(GrammarConstraint):
    """A constraint that adds up the time its masks take."""

    seconds = first_seconds = 0.0
    masks = firsts = 0

    def allowed(self, state: State, left: int) -> torch.Tensor:
        """As it is, timed; apart where a state is met for the first time."""
        known = len(self._masks)
        started = time.process_time()
        found = super().allowed(state, left)
        spent = time.process_time() - started
        Timed.seconds, Timed.masks = Timed.seconds + spent, Timed.masks + 1
        if len(self._masks) != known:
            Timed.first_seconds, Timed.firsts = Timed.first_seconds + spent, Timed.firsts + 1
        return found


#: What the tunes are asked to be, in turn; with a length they can end by themselves.
CONSTRAINTS = (
    TuneConstraints(),
    TuneConstraints(voices=2),
    TuneConstraints(bars=8, sections=2, meter="6/8"),
    TuneConstraints(bars=4, sections=2, voices=2, repeats=True),
    TuneConstraints(bars=6, sections=1, repeats=True, meter="3/4"),
    TuneConstraints(bars=6, voices=2, meter="C|", unit="1/8"),
)


def write(
    network: Any, tokenizer: Any, constraints: Sequence[GrammarConstraint | None], new: int
) -> tuple[list[str], int]:
    """The texts, and how many tokens they have together."""
    decoder = Decoder(network, tokenizer.eos_token_id)
    for number, constraint in enumerate(constraints):
        sampling = replace(SAMPLING, seed=number, max_new_tokens=new)
        decoder.submit([tokenizer.eos_token_id, number % 50 + 5], sampling, constraint)
    written: dict[int, list[int]] = {number: [] for number in range(len(constraints))}
    while not decoder.idle:
        for event in decoder.step():
            written[event.handle] += event.tokens
    texts = [tokenizer.decode(written[number], clean_up_tokenization_spaces=False) for number in sorted(written)]
    return texts, sum(map(len, written.values()))


def judge(texts: Sequence[str], second: Abc2midi) -> dict[str, int]:
    """How many tunes each reader takes."""
    found: Counter[str] = Counter()
    for text in texts:
        report = second.report(text)
        found["abc2midi: no error, no wrong bar, notes"] += (
            not report.errors and not report.bar_warnings and report.notes
        )
        found["music21 reads notes"] += music21_notes(text) > 0
        found["musician: format/strict"] += int(measure_format(text, second)["format/strict"])
    return {"tunes": len(texts), **found}


def music21_notes(text: str) -> int:
    """Notes and chords that music21 reads; 0 where it cannot read the text."""
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return len(converter.parse(text, format="abc").flatten().notes)
        except Exception:
            return 0


def features(texts: Sequence[str]) -> dict[str, int]:
    """In how many tunes each kind of thing occurs."""
    bodies = [re.split(r"\nK:[^\n]*\n", text, maxsplit=1)[-1] for text in texts]
    found = {name: sum(bool(re.search(pattern, body)) for body in bodies) for name, pattern in FEATURES.items()}
    first = [parse_tune(text).bars[0] for text in texts]
    return found | {"pick-up": sum(bar.duration < bar.meter.duration for bar in first if bar.meter)}


def main() -> None:
    """Write, judge, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="bytes")
    parser.add_argument("--tunes", type=int, default=500)
    parser.add_argument("--free", type=int, default=100, help="tunes without the grammar")
    parser.add_argument("--new-tokens", type=int, default=400)
    arguments = parser.parse_args()
    second = Abc2midi.installed()
    if second is None:
        sys.exit("no abc2midi; on Debian and Ubuntu: apt install abcmidi")
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(arguments.tokenizer)
    network = prepare(LanguageModel(random_llama(len(tokenizer)).eval(), Renderer(tokenizer)))
    kinds = [Timed(tokenizer, each) for each in CONSTRAINTS]
    constraints = [kinds[number % len(kinds)] for number in range(arguments.tunes)]
    started = time.process_time()
    tunes, tokens = write(network, tokenizer, constraints, arguments.new_tokens)
    spent = time.process_time() - started
    free, _ = write(network, tokenizer, [None] * arguments.free, arguments.new_tokens)
    again = Timed.seconds - Timed.first_seconds
    report = {
        "tokenizer": arguments.tokenizer,
        "sampling": asdict(SAMPLING),
        "held to the grammar": judge(tunes, second) | {"with": features(tunes)},
        "free": judge(free, second),
        "tokens": tokens,
        "CPU ms a token": {
            "mask, first visits of a state included": round(1e3 * Timed.seconds / Timed.masks, 3),
            "mask of a state met before": round(1e3 * again / (Timed.masks - Timed.firsts), 3),
            "all of the writing": round(1e3 * spent / tokens, 3),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
