"""Playing order, bar check, sections and motifs."""

from fractions import Fraction

import pytest

from musician.music.abc.elements import Tune
from musician.music.abc.reader import parse_tune
from musician.music.abc.repeats import MOST_BARS, playing_order
from musician.music.analysis.check import check_bars, check_header
from musician.music.analysis.form import form_letters, form_term, motif, section_bars, similarity


def tune(body: str, fields: str = "M:4/4\nL:1/4\n") -> Tune:
    return parse_tune(f"X:1\n{fields}K:C\n{body}")


def played(body: str, fields: str = "") -> str:
    (order,) = playing_order(tune(body, fields)).values()
    return "".join(bar.text for bar in order.bars)


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("A|B:|c|d|]", "ABABcd"),
        ("A||:B|c:|d|", "ABcBcd"),
        ("|:A|B::c|d:|", "ABABcdcd"),
        ("|:A|1B:|2c||d|", "ABAcd"),
        ("|:A|1B:|2c:|d|e:|", "ABAcdede"),
        ("|:A|1,3B:|2c:|]", "ABAcAB"),
        ("|:A|1-2B:|3c||d:|", "ABABAcdd"),
        ("|::A|B::|c|", "ABABABc"),
        ("A|[1B:|[2c|]", "ABAc"),
        ("A|B||c|d:|", "ABcdcd"),
        ("|:A|B||c|d:|", "ABcdABcd"),
        ("A|B|\n|c|d:|", "ABcdABcd"),
        ("|:A|1B:|2c||d|e:|", "ABAcdede"),
        ("A|B[|]:|c|d[|] :||:e[|]:|", "ABABcdcdee"),
        ("A|B| :|c|]", "ABABc"),
    ],
)
def test_repeats_and_endings(body: str, order: str) -> None:
    assert played(body) == order


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("A|B!fine!|c|d!D.C.!|]", "AB!fine!cd!D.C.!AB!fine!"),
        ("A|B|c|d!D.C.!|]", "ABcd!D.C.!ABcd!D.C.!"),
        ("|:A|B:|c|d!dacapo!|e|]", "ABABcd!dacapo!ABcd!dacapo!"),
        ("A|!segno!B|c!fine!|d!D.S.alfine!|]", "A!segno!Bc!fine!d!D.S.alfine!!segno!Bc!fine!"),
        ("|:A|1B:|2c!fine!||d!D.C.!|]", "ABAc!fine!d!D.C.!Ac!fine!"),
        ("A|B!fine!|c|d!D.C.!", "AB!fine!cd!D.C.!AB!fine!"),
    ],
)
def test_da_capo_and_dal_segno_play_each_section_once(body: str, order: str) -> None:
    assert played(body) == order


def test_every_voice_goes_back_where_one_is_told_to() -> None:
    orders = playing_order(tune("V:1\nA|B!fine!|c!D.C.!|\nV:2\nC|D|E|"))
    assert ["".join(bar.text[0] for bar in order.bars) for order in orders.values()] == ["ABcAB", "CDECD"]


def test_parts_come_in_the_order_of_the_header() -> None:
    assert played("P:A\nA|\nP:B\nB|", "P:A(BA)2\n") == "ABABA"


def test_nested_repeats_are_cut_and_said() -> None:
    bomb = tune("P:A\n" + "A|B|" * 50, "P:" + "(" * 80 + "A" + ")9" * 80 + "\n")
    (order,) = playing_order(bomb).values()
    assert order.cut
    assert len(order.bars) == MOST_BARS
    assert not playing_order(tune("A|" * 10))[""].cut
    assert played("|1A:|" * 3000)


def test_a_bar_line_at_both_ends_of_a_line_break_parts_no_sections() -> None:
    assert [len(part) for part in section_bars(tune("A|B|\n|c|d||\n||e|f|]"))] == [4, 2]


@pytest.mark.parametrize(
    ("body", "faulty"),
    [
        ("ABcd|e4|", []),
        ("A|ABcd|ABc|]", []),
        ("ABcd|ABc|ABcd|", [2]),
        ("ABcd|ABcde|ABcd|", [2]),
        ("ABcd|ABc:|A|ABcd|", []),
        ("|:ABcd|1ABc:|2AB||cd|ABcd|]", []),
        ("ABcd|AB[1cd:|[2ef|]", []),
        ("M:none\nA|B|c|", []),
        ("ABcd|Z3|ABcd|", []),
        ("ABcd|ABc&AB|ABcd|", [2]),
        ("ABcd|AB & E4|ABcd|", []),
        ("ABcd|(3ABc d2 e|ABcd|", [2]),
    ],
)
def test_bar_check(body: str, faulty: list[int]) -> None:
    assert [fault.bar for fault in check_bars(tune(body))] == faulty


def test_a_fault_says_where_and_what() -> None:
    (fault,) = check_bars(tune("ABcd|ABc|ABcd|"))
    assert (fault.duration, fault.expected) == (Fraction(3, 4), Fraction(1))
    assert str(fault) == "bar 2 lasts 3/4 of a whole note, its meter says 1"


def test_header_check() -> None:
    assert check_header(parse_tune("X:1\nM:4/4\nL:1/8\nK:C\nA|")) == []
    assert check_header(parse_tune("T:a\nM:x\nL:y\nABC|")) == [
        "no X: field",
        "no K: field",
        "M:x is no meter",
        "L:y is no unit length",
    ]


def test_real_tunes_mostly_add_up(corpus_sample: list[str]) -> None:
    """A corrupted length is found in nearly every tune that added up before."""
    clean = [each for each in map(parse_tune, corpus_sample) if each.meter and not check_bars(each)]
    assert len(clean) > 0.8 * len(corpus_sample)
    found = tried = 0
    for each in clean:
        bars = [bar for bar in each.bars[2:-2] if bar.meter and bar.duration == bar.meter.duration]
        if bars:
            note = bars[len(bars) // 2].notes[0]
            tried += 1
            found += bool(
                check_bars(
                    parse_tune(each.text[: note.end] + each.text[note.start : note.end] * 9 + each.text[note.end :])
                )
            )
    assert found > 0.95 * tried


def test_form_letters_follow_the_paper() -> None:
    a, b = "CDEF|GABc|", "gfed|cBAG|"
    varied = "CDEF|GAcc|"
    assert form_letters(tune(f"{a}|{b}|{a}|")) == "ABA"
    assert form_letters(tune(f"|:{a[:-1]}::{b[:-1]}:|")) == "AB"
    assert similarity("abcdefgh", "abcdefgx") == 9
    assert form_letters(tune(f"{a}|CDEF|GAcB||{b[:-1]}||{varied[:-1]}|]"))[0] == "A"
    assert form_letters(tune("CDEF|GABc||CDEF|edcB||")) == "AA'" or similarity("12345678", "1234dcb!") == 5
    assert [form_term(each) for each in ("A", "AB", "ABA", "AABA", "ABAB", "AA'", "ABCDE")] == [
        "Only One Section",
        "Binary",
        "Ternary",
        "American Popular",
        "Verse/Chorus",
        "Variational",
        "Through Composed",
    ]


def test_a_motif_is_the_most_frequent_run_and_the_longest_of_equals() -> None:
    (bars,) = section_bars(tune('ABcd|"Am"ABcd|ABcd|efga|'))
    assert motif(bars) == tuple(f"{midi}:1/4" for midi in (69, 71, 72, 74))
    assert motif(()) == ()
