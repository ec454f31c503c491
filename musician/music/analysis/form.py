"""Sections, form letters, form terms and motifs by the algorithms of the ChatMusician paper, Appendix D.

The paper works on IrishMAN's control codes: sections end at the bar lines `[| || |] |: :: :|`, and each has its edit
distance similarity (EDS, 0 to 10) with the sections before it. EDS is ten times one minus the Levenshtein distance over
the longer length, rounded; here over notes (pitch and length), so that spelling does not count.
"""

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from musician.music.abc.elements import Bar, Note, Tune

SAME, VARIED = 8, 6
"""EDS from which a section takes the letter of an earlier one, and from which it is that section's variation."""
SHORTEST, LONGEST = 2, 9
"""Tokens in a motif."""
MOST_SECTIONS = 26
_LONGEST_COMPARED = 600
_OTHER_ORDER = re.compile(r"^[PV]:|\[[PV]:|D\.? ?[CS]\b|\bfine\b|[Ss]egno|[Cc]oda", re.MULTILINE | re.IGNORECASE)
_SECTION_END = re.compile(r":|\|\||\]")


def section_bars(tune: Tune) -> list[list[Bar]]:
    """Return the bars of the first voice by section, of which the paper's bar lines part one from the next."""
    sections: list[list[Bar]] = [[]]
    for bar in next(iter(tune.voices.values()), []):
        if sections[-1] and any(sign in bar.opening for sign in (":", "||", "[", "]")) and not bar.ending:
            sections.append([])
        sections[-1].append(bar)
    return [section for section in sections if section]


def form_letters(tune: Tune) -> str:
    """Return a letter for each written section, a variation with a prime: `AB`, `AA'BA`.

    A section is the same as the earlier one it is most like (the first of equals) from EDS 8, its variation from 6,
    else new. Empty for a tune without bars or with more than 26 sections.
    """
    sections = [_tokens(bars) for bars in section_bars(tune)]
    if not 0 < len(sections) <= MOST_SECTIONS:
        return ""
    letters: list[str] = []
    for place, section in enumerate(sections):
        scores = [similarity(section, earlier) for earlier in sections[:place]]
        best = max(scores, default=0)
        if best < VARIED:
            letters.append("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[len({letter[0] for letter in letters})])
        else:
            like = letters[scores.index(best)][0]
            letters.append(like if best >= SAME else like + "'")
    return "".join(letters)


def similarity(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the edit distance similarity of two sections, 0 to 10; of very long ones, of their first 600 tokens."""
    one, other = one[:_LONGEST_COMPARED], other[:_LONGEST_COMPARED]
    longest = max(len(one), len(other))
    return round(10 * (1 - Levenshtein.distance(one, other) / longest)) if longest else 10


def form_term(letters: str) -> str:
    """Return the paper's term for a form in letters; `Through Composed` where every section is new, else `Sectional`.

    The paper names the terms and not all of their letters; those of the verse and chorus forms are our reading: a
    second section that returns is the chorus.
    """
    plain = letters.replace("'", "")
    if len(plain) > 1 and "'" in letters and len(set(plain)) == 1:
        return "Variational"
    if plain in _TERMS:
        return _TERMS[plain]
    if len(plain) > 3 and len(set(plain)) == len(plain):
        return "Through Composed"
    return "Only One Section" if plain and len(set(plain)) == 1 else "Sectional"


_TERMS = {
    "A": "Only One Section",
    "AB": "Binary",
    "AABB": "Binary",
    "ABA": "Ternary",
    "ABC": "Through Composed",
    "AABA": "American Popular",
    "ABAB": "Verse/Chorus",
    "ABABCB": "Verse/Chorus/Bridge",
    "ABABCAB": "Verse/Chorus/Verse/Bridge",
    "ABCD": "Compound Binary",
    "ABABCDCD": "Compound Binary",
    "ABACDCABA": "Compound Ternary",
}


def motif(bars: Sequence[Bar]) -> tuple[str, ...]:
    """Return a section's motif: of all runs of 2 to 9 tokens the most frequent, the longest of equals, then the first.

    Tokens are notes as they sound in the key (pitch and length); bar lines, chord symbols and decorations are dropped.
    """
    tokens = _tokens(bars)[: 10 * _LONGEST_COMPARED]
    runs = Counter(
        tuple(tokens[start : start + size])
        for size in range(LONGEST, SHORTEST - 1, -1)
        for start in range(len(tokens) - size + 1)
    )
    return max(runs, key=lambda run: (runs[run], len(run)), default=())


def motif_notes(bars: Sequence[Bar]) -> list[Note]:
    """Return the notes of a section's motif where it first stands; none where no run of notes returns."""
    run, tokens = list(motif(bars)), _tokens(bars)
    starts = [start for start in range(len(tokens) - len(run) + 1) if run and tokens[start : start + len(run)] == run]
    notes = [note for bar in bars for note in bar.notes]
    return notes[starts[0] : starts[0] + len(run)] if len(starts) > 1 else []


def _tokens(bars: Sequence[Bar]) -> list[str]:
    """Return one token a note or rest: pitch and length in whole notes."""
    return [f"{'z' if note.midi is None else note.midi}:{note.duration}" for bar in bars for note in bar.notes]


def sounding_form(tune: Tune) -> str | None:
    """Return the order in which a tune's sections sound, as `AABB`: sections of the same notes share a letter.

    Sections end at double bar lines and repeat signs; one whose repeat sign stands at its end counts twice. None where
    that is in doubt: endings that differ, an order of parts or da capo, a repeat that opens and does not close, fewer
    than two sections or more than six, one of fewer than four bars.
    """
    parts = _parts(tune.bars)
    if not 2 <= len(parts) <= 6 or min(len(part) for part in parts) < 4 or _in_doubt(tune, parts):
        return None
    letters: dict[tuple[object, ...], str] = {}
    form = ""
    for part in parts:
        notes = tuple(note for bar in part for note in bar.notes)
        letter = letters.setdefault(notes, "ABCDEF"[len(letters)])
        form += letter * (2 if part[-1].barline.startswith(":") else 1)
    return form


def _in_doubt(tune: Tune, parts: list[list[Bar]]) -> bool:
    """Whether the sections may sound in another order than their bar lines say."""
    ends = [(part[0].opening.endswith(":"), part[-1].barline) for part in parts]
    return (
        any(bar.ending for bar in tune.bars)
        or bool(tune.field("P"))
        or _OTHER_ORDER.search(tune.body) is not None
        or any(opens and not closing.startswith(":") for opens, closing in ends)
        or any(":" in closing.strip(":") for _, closing in ends)
    )


def _parts(bars: tuple[Bar, ...]) -> list[list[Bar]]:
    parts: list[list[Bar]] = [[]]
    for bar in bars:
        parts[-1].append(bar)
        if _SECTION_END.search(bar.barline):
            parts.append([])
    return [part for part in parts if part]
