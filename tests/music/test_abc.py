import gc
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.sources.corpus import COLLECTIONS, iter_tunes
from musician.music.abc.elements import Tune
from musician.music.abc.extract import count_notes
from musician.music.abc.key import parse_key
from musician.music.abc.meter import Meter, default_unit, parse_meter
from musician.music.abc.reader import parse_tune, split_tunes

HOSTILE = {
    "huge duration": "C999999999/99999999999",
    "digits": "C" + "1" * 300_000,
    "slashes": "C" + "/" * 300_000,
    "octaves": "c" + "'" * 300_000,
    "brackets": "[" * 300_000,
    "open chords": "[C" * 150_000,
    "fields": "[M:" * 100_000,
    "braces": "{" * 300_000,
    "quotes": '"' * 300_001,
    "tuplets": "(9:99:99" * 40_000,
    "colons": ":" * 300_000,
    "bar lines": "|" * 300_000,
    "decorations": "!a" * 150_000,
    "accidentals": "^" * 300_000,
    "broken": "A>" * 100_000,
    "denominators": " ".join(f"C{count % 9999}/{count % 211 + 1}" for count in range(40_000)),
    "meter": "M:(" + "1+" * 150_000,
    "headers": "X:1\n" * 75_000,
    "keys": "K:^f\n" * 50_000,
    "overlays": "A&" * 100_000,
}


def times(music: str, fields: str = "L:1/8\nM:4/4\nK:C\n") -> list[Fraction]:
    return [note.duration * 8 for note in parse_tune(f"X:1\n{fields}{music}").notes if not note.stacked]


def pitches(music: str, key: str = "C") -> list[int | None]:
    return [note.midi for note in parse_tune(f"X:1\nL:1/8\nK:{key}\n{music}").notes]


def test_a_tune_reads_as_written(reel: str) -> None:
    tune = parse_tune(reel)
    assert tune.field("T") == "The Test Reel"
    assert tune.field("Q") == ""
    assert (tune.meter, tune.unit, tune.key.name) == (Meter(4, 4), Fraction(1, 8), "G major")
    assert len(tune.bars) == 8
    assert tune.bars[0].text == "G2BG dGBG"
    assert (tune.bars[0].opening, tune.bars[3].barline, tune.bars[4].opening) == ("|:", ":|", ":| |:")
    assert {bar.duration for bar in tune.bars} == {Fraction(1)}


def test_split_tunes_keeps_tunes_only() -> None:
    text = "A book\r\n\r\nX:1\r\nK:C\r\nCDE|\r\n\r\nA remark.\r\nX:2\r\nK:D\r\nDEF|\r\n"
    assert split_tunes(text) == ["X:1\nK:C\nCDE|", "X:2\nK:D\nDEF|"]
    assert split_tunes("no tune") == []


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        (
            "A A2 A/ A// A3/2 A/4 A6/4",
            [1, 2, Fraction(1, 2), Fraction(1, 4), Fraction(3, 2), Fraction(1, 4), Fraction(3, 2)],
        ),
        ("A>B A<B A>>B", [Fraction(n, 4) for n in (6, 2, 2, 6, 7, 1)]),
        ("(3ABc d", [Fraction(2, 3)] * 3 + [1]),
        ("(2AB (4ABcd", [Fraction(3, 2)] * 2 + [Fraction(3, 4)] * 4),
        ("(3:2:4ABcd e", [Fraction(2, 3)] * 4 + [1]),
        ("(3:4:2AB e", [Fraction(4, 3)] * 2 + [1]),
        ("(5ABcde", [Fraction(2, 5)] * 5),
        ("{ab}A {/g}B", [1, 1]),
        ("[CEG]2 [C2E2] [CE]/", [2, 2, Fraction(1, 2)]),
        ("z2 x Z", [2, 1, 8]),
        ('"Am7"A !trill!B +fermata+c .d ~e uf', [1] * 6),
        ("A2 [L:1/4] A [M:3/4] A", [2, 2, 2]),
        ("A2\nL:1/16\nA2 % B2 c2\nw: la la\nP:B\nA2", [2, 1, 1]),
        ("(A>.B) (c<(d)e)", [Fraction(n, 2) for n in (3, 1, 1, 3, 2)]),
    ],
)
def test_durations(music: str, expected: list[Fraction]) -> None:
    assert times(music) == expected


@pytest.mark.parametrize(
    ("music", "key", "expected"),
    [
        ("C D E F G A B c c' C,", "C", [60, 62, 64, 65, 67, 69, 71, 72, 84, 48]),
        ("F f c", "D", [66, 78, 73]),
        ("^F F | F", "C", [66, 66, 65]),
        ("^F f", "C", [66, 78]),
        ("=F F | F", "G", [65, 65, 66]),
        ("__B ^^C", "C", [69, 62]),
        ("^F-|F F", "C", [66, 66, 65]),
        ("B", "Bb", [70]),
        ("F [K:D] F", "C", [65, 66]),
        ("F\nK:D\nF", "C", [65, 66]),
        ("z [CEG]", "C", [None, 60, 64, 67]),
        ("F C", "HP", [66, 61]),
        ("F B", "D Phr ^f", [66, 70]),
    ],
)
def test_pitches(music: str, key: str, expected: list[int | None]) -> None:
    assert pitches(music, key) == expected


@pytest.mark.parametrize(
    ("value", "name", "sharps"),
    [
        ("G", "G major", 1),
        ("Gmin", "G minor", -2),
        ("Ador", "A dorian", 1),
        ("D mix", "D mixolydian", 1),
        ("A Mixolydian", "A mixolydian", 2),
        ("F#m", "F# minor", 3),
        ("Bb", "Bb major", -2),
        ("C#", "C# major", 7),
        ("Abm", "Ab minor", -7),
        ("EM", "E major", 4),
        ("Glyd % odd", "G lydian", 2),
        ("", "C major", 0),
        ("none", "no key", 0),
    ],
)
def test_keys(value: str, name: str, sharps: int) -> None:
    key = parse_key(value)
    assert (key.name, key.sharps) == (name, sharps)


def test_a_key_field_that_names_a_clef_keeps_the_key() -> None:
    assert parse_key("clef=bass", parse_key("D")) == parse_key("D")


def test_meters_and_default_units() -> None:
    assert [parse_meter(value) for value in ("C", "C|", "6/8", "2+3/8", "none", "")] == [
        (4, 4),
        (2, 2),
        (6, 8),
        (5, 8),
        None,
        None,
    ]
    assert [default_unit(Meter(*each)) for each in ((2, 4), (3, 4), (6, 8))] == [
        Fraction(1, 16),
        Fraction(1, 8),
        Fraction(1, 8),
    ]


def test_endings_and_double_bars() -> None:
    bars = parse_tune("X:1\nK:C\n|:CDEF|1 GABc:|2 cBAG||\n|: cccc [1 dddd :|[2 eeee |]").bars
    assert [(bar.text, bar.ending) for bar in bars][:3] == [("CDEF", ""), ("GABc", "1"), ("cBAG", "2")]
    assert bars[-1].ending == "2"


def test_counting() -> None:
    assert count_notes("X:1\nK:C\n{g}A z [CEG] A-A|") == 6
    assert count_notes("X:1\nK:C\nAB|\nX:2\nK:C\nc|") == 3
    assert count_notes("") == 0


def seconds(text: str) -> float:
    """CPU time of one reading; without the collector, whose passes go over all that other tests have left in memory."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        parse_tune(text)
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_linear_time(name: str) -> None:
    """Four times the text takes about four times as long; what were quadratic would take sixteen times."""
    whole = HOSTILE[name][:100_000]
    for head in ("", "X:1\nK:C\n"):
        quarter = max(seconds(head + whole[: len(whole) // 4]), 0.02)
        assert seconds(head + whole) < 10 * quarter
    assert all(note.midi is None or 0 <= note.midi <= 127 for note in parse_tune(f"X:1\nK:C\n{whole}").notes)


def test_spans_lead_back_to_what_is_written(corpus_sample: list[str]) -> None:
    for text in corpus_sample[::3]:
        tune = parse_tune("A preface\n" + text)
        for element in tune.elements:
            assert tune.text[element.start : element.end] == element.text
        for bar in tune.bars:
            assert bar.start <= min(note.start for note in bar.notes)
            for note in (*bar.notes, *bar.graces):
                alone = f"L:{bar.unit}\nK:none\n{tune.text[note.start : note.pitch_end]}"
                written = next(parse_tune(alone).notes)
                assert written.place == note.place
                if tune.text[note.start] in "^_=":
                    assert written.midi == note.midi


def test_windows_line_ends_keep_positions() -> None:
    tune = parse_tune("X:1\r\nK:D\r\nF2 G\r\n")
    assert [tune.text[note.start : note.end] for note in tune.notes] == ["F2", "G"]
    assert [note.midi for note in tune.notes] == [66, 67]


def test_voices_keep_their_own_state() -> None:
    tune = parse_tune("X:1\nL:1/8\nK:C\n[V:1] ^F2 F2 | G4 |\n[V:2] F4 | [L:1/4] C4 |\n[V:1] [K:D] F4 |]")
    assert {name: [note.midi for bar in bars for note in bar.notes] for name, bars in tune.voices.items()} == {
        "1": [66, 66, 67, 66],
        "2": [65, 60],
    }
    assert [str(bar.duration) for bar in tune.voices["2"]] == ["1/2", "1"]


@pytest.mark.parametrize(
    ("body", "pitches_expected"),
    [
        ("I:propagate-accidentals not\n^F F f |", [66, 65, 77]),
        ("I:propagate-accidentals octave\n^F F f |", [66, 66, 77]),
        ("%%propagate-accidentals pitch\n^F F f |", [66, 66, 78]),
        ("[K:C octave=-1] c", [60]),
        ("[K:C treble-8] c", [60]),
        ("[K:C bass] c", [72]),
        ("{^f}e f", [76, 78]),
    ],
)
def test_what_moves_pitches(body: str, pitches_expected: list[int]) -> None:
    assert pitches(body) == pitches_expected


def test_overlays_and_chords_have_onsets_and_lengths() -> None:
    (bar,) = parse_tune("X:1\nL:1/4\nK:C\n[C2E]2 D & G3 |").bars
    assert [(note.midi, str(note.onset), str(note.duration)) for note in bar.notes] == [
        (60, "0", "1"),
        (64, "0", "1/2"),
        (62, "1", "1/4"),
        (67, "0", "3/4"),
    ]
    assert bar.duration == Fraction(5, 4)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="XKLMV:123/4[]{}()|<>^_=ABCabz,'-\"!+&%\n ~.\\", max_size=300)))
def test_any_text_is_a_tune(text: str) -> None:
    for each in (text, f"X:1\nK:C\n{text}", f"X:1\nM:6/8\nK:{text}"):
        tune = parse_tune(each)
        assert isinstance(tune, Tune)
        assert count_notes(each) >= 0
        for bar in tune.bars:
            assert bar.duration >= sum(note.duration for note in bar.notes if not note.stacked)
        for part in split_tunes(each):
            assert split_tunes(part) == [part]


@pytest.mark.slow
def test_every_tune_of_the_whole_corpus_is_read() -> None:
    tunes = list(iter_tunes(list(COLLECTIONS)))
    assert len(tunes) == 12_978
    silent = [tune.file for tune in tunes if not any(note.midi is not None for note in parse_tune(tune.text).notes)]
    assert not silent
