from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musician.data.sources.corpus import COLLECTIONS, iter_tunes
from musician.music.abc.elements import Tune
from musician.music.abc.meter import Meter
from musician.music.abc.reader import parse_tune
from musician.music.edit.rewrite import STRIPPED, canonical, same_music, set_meter, set_unit, strip
from musician.music.edit.transpose import transpose, transpose_by
from musician.runtime.errors import UserError

TONICS = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]


@pytest.fixture(scope="module")
def tunes() -> list[Tune]:
    return [parse_tune(tune.text) for tune in list(iter_tunes(list(COLLECTIONS)))[::60]]


def heads(tune: Tune) -> list[int | None]:
    return [note.midi for note in tune.notes]


def test_transposition_moves_every_note_and_the_way_back_gives_the_text(tunes: list[Tune]) -> None:
    for place, tune in enumerate(tunes):
        semitones = place % 25 - 12
        moved = parse_tune(transpose_by(tune, semitones))
        assert heads(moved) == [None if midi is None else midi + semitones for midi in heads(tune)], tune.text
        assert [note.duration for note in moved.notes] == [note.duration for note in tune.notes]
        if tune.key.tonic:
            assert moved.key.mode == tune.key.mode
            goal = TONICS[place % 12]
            try:
                there = parse_tune(transpose(tune, goal))
            except UserError:
                continue
            assert there.key.tonic == goal
            if abs(heads_shift(tune, there)) < 6:
                assert transpose(there, tune.key.tonic) == tune.text


def heads_shift(one: Tune, other: Tune) -> int:
    return next((b - a for a, b in zip(heads(one), heads(other), strict=True) if a is not None and b is not None), 0)


def test_spelling_follows_the_key() -> None:
    text = 'X:1\nT:a C\nK:Am\n"Am"A ^G "E7/G#"B ^F =G|[K:C]"^C text"c [CE]'
    assert transpose(parse_tune(text), "C") == 'X:1\nT:a C\nK:Cm\n"Cm"c =B "G7/B"d =A _B|[K:Eb]"^C text"e [EG]'


def test_what_has_no_tonic_moves_by_accidentals() -> None:
    assert heads(parse_tune(transpose_by(parse_tune("X:1\nK:none\nC E F"), 2))) == [62, 66, 67]
    with pytest.raises(UserError, match="names no tonic"):
        transpose(parse_tune("X:1\nK:none\nC"), "D")
    with pytest.raises(UserError, match="more than 7"):
        transpose(parse_tune("X:1\nK:C\nC"), "G#")
    with pytest.raises(UserError, match="no tonic: 'H'"):
        transpose(parse_tune("X:1\nK:C\nC"), "H")


def test_music21_transposes_the_same(tunes: list[Tune]) -> None:
    music21 = pytest.importorskip("music21")
    for tune in [each for each in tunes if each.key.plain][:40]:
        there = parse_tune(transpose(tune, "D"))
        home = music21.pitch.Pitch(tune.key.tonic.replace("b", "-") + "4")
        goal = home.transpose(heads_shift(tune, there))
        goal = goal if goal.name == "D" else goal.getEnharmonic()
        interval = music21.interval.Interval(home, goal)
        for before, after in zip(tune.notes, there.notes, strict=True):
            if before.midi is not None:
                moved = music21.pitch.Pitch(midi=before.midi).transpose(interval.chromatic.semitones)
                assert moved.midi == after.midi


def test_unit_strip_and_canonical_keep_the_music(tunes: list[Tune]) -> None:
    for tune in tunes:
        for unit in (Fraction(1, 4), Fraction(1, 16)):
            written = set_unit(tune, unit)
            assert parse_tune(written).unit == unit
            assert same_music(written, tune.text)
        once = canonical(tune)
        assert canonical(parse_tune(once)) == once
        assert same_music(once, tune.text)
        bare = parse_tune(strip(tune, *STRIPPED))
        assert same_music(bare.text, tune.text)
        assert not {each.kind for each in bare.elements} & {"quoted", "decoration", "grace"}


def test_canonical_form_evens_out_spelling() -> None:
    one = parse_tune("X:7\nM:C\nT:late\nK:G\nA/ B2/2 +f+c|  [C/E/]2 % remark\n d")
    two = parse_tune("X:1\nT:late\nL:1/8\nM:4/4\nK:G\nA/2 B !f!c | [C/2E/2]2\nd")
    assert canonical(one) == canonical(two)
    with pytest.raises(UserError, match="cannot strip words"):
        strip(one, "words")


def test_a_meter_divides_bars() -> None:
    tune = parse_tune("X:1\nM:4/4\nL:1/8\nK:C\nG2|^F2F2 F4|")
    assert set_meter(tune, Meter(2, 4)) == "X:1\nM:2/4\nL:1/8\nK:C\nG2|^F2F2 | ^F4|"
    assert set_meter(tune, Meter(2, 2)).split("\n")[1] == "M:2/2"
    with pytest.raises(UserError, match="do not divide"):
        set_meter(tune, Meter(3, 4))
    with pytest.raises(UserError, match="crosses the bar line"):
        set_meter(parse_tune("X:1\nM:4/4\nL:1/4\nK:C\nA B2 c|"), Meter(2, 4))


@example(body='{"}"', semitones=0)
@example(body="A/1/", semitones=0)
@example(body="c:1", semitones=-2)
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ABCcdg^_=|[]():23/>{}\"' \n&-!zZ%KLV1", max_size=80), st.integers(-12, 12))
def test_any_text_is_rewritten_or_refused(body: str, semitones: int) -> None:
    tune = parse_tune(f"X:1\nL:1/8\nM:4/4\nK:D\n{body}")
    for change in (
        lambda: transpose_by(tune, semitones),
        lambda: set_unit(tune, Fraction(1, 4)),
        lambda: strip(tune, *STRIPPED),
    ):
        try:
            changed = change()
        except UserError:
            continue
        assert isinstance(changed, str)
    assert canonical(parse_tune(canonical(tune))) == canonical(tune)
