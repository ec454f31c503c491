"""Sections, form letters and motifs against music21's reading and the definitions written out anew."""

import re
from collections import Counter
from fractions import Fraction

import pytest

from musician.data.sources.corpus import iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.analysis.form import form_letters, motif, section_bars

PLAIN = re.compile(r"[A-Ga-gz0-9/',^_=|:\s\]]+")
"""Bodies of which no sign is misread by music21, as test_against_music21.py has it; without endings."""


def plain_tunes():
    found = []
    for text in (tune.text for tune in iter_tunes()):
        body = text.partition("\nK:")[2].partition("\n")[2]
        if PLAIN.fullmatch(body) and not re.search(r"\|\s*[0-9]|::|:[A-Ga-g]", body) and "||" in body + ":|":
            found.append(text)
    return found


def sections(text):
    """Tokens of each section as music21 reads them: pitch and length in whole notes."""
    converter = pytest.importorskip("music21.converter")
    stream = converter.parse(f"%abc-2.1\n{text}", format="abc")
    parts = [[]]
    for measure in (stream.parts[0] if stream.parts else stream).getElementsByClass("Measure"):
        left, right = measure.leftBarline, measure.rightBarline
        if parts[-1] and left is not None and left.type != "regular":
            parts.append([])
        for event in measure.notesAndRests:
            pitch = "z" if event.isRest else event.pitch.midi
            parts[-1].append(f"{pitch}:{Fraction(event.quarterLength) / 4}")
        if right is not None and right.type != "regular":
            parts.append([])
    return [part for part in parts if part]


def distance(one, other):
    """Levenshtein's table."""
    table = [[max(row, column) if not row or not column else 0 for column in range(len(other) + 1)]
             for row in range(len(one) + 1)]  # fmt: skip
    for row, left in enumerate(one, 1):
        for column, right in enumerate(other, 1):
            replaced = table[row - 1][column - 1] + (left != right)
            table[row][column] = min(replaced, table[row - 1][column] + 1, table[row][column - 1] + 1)
    return table[-1][-1]


def letters(parts):
    """The paper's letters: EDS 8 is the same, 6 a variation of the likest earlier section, else a new letter."""
    names = []
    for place, part in enumerate(parts):
        alike = [round(10 * (1 - distance(part, other) / max(len(part), len(other)))) for other in parts[:place]]
        if not alike or max(alike) < 6:
            names.append(chr(ord("A") + len({name[0] for name in names})))
        else:
            names.append(names[alike.index(max(alike))][0] + ("" if max(alike) >= 8 else "'"))
    return "".join(names)


def commonest_run(tokens):
    runs = [tuple(tokens[start : start + size]) for size in range(2, 10) for start in range(len(tokens) - size + 1)]
    counts = Counter(runs)
    best = max(((counts[run], len(run)) for run in runs), default=None)
    return next((run for run in runs if (counts[run], len(run)) == best), ())


def test_form_and_motifs_are_those_of_a_second_computation():
    tunes = plain_tunes()[::2]
    assert len(tunes) > 30
    forms = set()
    for text in tunes:
        parts, tune = sections(text), parse_tune(text)
        assert form_letters(tune) == letters(parts), text
        assert [motif(bars) for bars in section_bars(tune)] == [commonest_run(part) for part in parts], text
        forms.add(letters(parts))
    assert len(forms) >= 3
