"""The grammar of tunes: two foreign readers take what it lets through, it stops what is wrong, and never gets stuck."""

import random
import re
import string

import pytest
from abc_readers import abc2midi_complaints, music21_notes, written_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.music.abc.reader import parse_tune
from musician.music.analysis.check import check_bars
from musician.music.grammar import TIE, TuneConstraints, TuneGrammar
from musician.runtime.errors import UserError

ALPHABET = sorted(set(string.printable) - set("\r\t\v\f"))
HEADER = "X:1\nM:4/4\nL:1/8\nK:G\n"

constraints = st.builds(
    lambda bars, sections, repeats, voices, meter, unit, key: TuneConstraints(
        key, meter, unit, bars if bars is None or bars >= (sections or 0) else sections, sections, repeats, voices
    ),
    bars=st.none() | st.integers(1, 20),
    sections=st.none() | st.integers(1, 3),
    repeats=st.sampled_from([None, True, False]),
    voices=st.sampled_from([1, 2]),
    meter=st.sampled_from([None, "6/8", "C|", "7/8", "3/2"]),
    unit=st.sampled_from([None, "1/4", "1/8", "1/16"]),
    key=st.sampled_from([None, "G", "Ador", "F# minor"]),
)


def random_tune(grammar, seed, most=600):
    """A text of characters drawn evenly from those allowed, ended on the short way after `most`; and its states."""
    rng, state, text, states = random.Random(seed), grammar.start(), "", []
    while len(text) < most:
        states.append(state)
        shuffled = rng.sample(ALPHABET, len(ALPHABET))
        allowed = next((character for character in shuffled if grammar.step(state, character)), None)
        if grammar.accepts(state) and (not allowed or rng.random() < 0.3):
            return text, states
        assert allowed, (text, state)
        text += allowed
        state = grammar.step(state, allowed)
    return text + grammar.completion(state), states


def bars_without_pickups(text):
    bars = next(iter(parse_tune(text).voices.values()))
    starts = [bar for bar in bars if bar is bars[0] or (set(bar.opening) - {"|"} or bar.opening == "||")]
    pickups = [bar for bar in starts if bar.duration < bar.meter.duration and not bar.ending]
    assert written_bars(text) == len(bars)
    return len(bars) - len(pickups)


def accepted(text, **wanted):
    grammar = TuneGrammar(TuneConstraints(**wanted))
    state = grammar.walk(grammar.start(), text)
    return state is not None and grammar.accepts(state)


@pytest.mark.parametrize("seed", range(20))
def test_foreign_readers_take_every_tune(seed, tmp_path):
    grammar = TuneGrammar(TuneConstraints(voices=1 + seed % 2))
    for number in range(3):
        text, _ = random_tune(grammar, 3 * seed + number)
        assert abc2midi_complaints(text, tmp_path) == [], text
        assert check_bars(parse_tune(text)) == [], text
        assert music21_notes(text) > 0


def test_the_readers_would_complain(tmp_path):
    assert abc2midi_complaints(HEADER + "A8|A7|A8|]", tmp_path)
    assert abc2midi_complaints(HEADER + "A8|[A7|A8|]", tmp_path)


@settings(max_examples=40, deadline=None)
@given(constraints, st.integers(0, 10**9))
def test_a_tune_is_what_was_wanted_and_no_state_is_a_dead_end(wanted, seed):
    grammar = TuneGrammar(wanted)
    text, states = random_tune(grammar, seed)
    assert accepted(text, **{name: getattr(wanted, name) for name in wanted.__slots__})
    for state in random.Random(seed).sample(states, 10):
        rest = grammar.completion(state)
        assert len(rest) < 120 + 60 * (wanted.bars or 1)
        assert grammar.accepts(grammar.walk(state, rest))
    for letter, value in (("K", wanted.key), ("M", wanted.meter), ("L", wanted.unit)):
        assert value is None or f"\n{letter}:{value}\n" in text
    assert wanted.bars is None or bars_without_pickups(text) == wanted.bars
    body = re.split(r"\nK:.*\n", text)[1]
    assert not re.search(r"\|:|:\||::", body) if wanted.repeats is False else "|:" in body or not wanted.repeats


@settings(max_examples=40, deadline=None)
@given(constraints, st.integers(0, 10**9))
def test_states_that_are_equal_when_clipped_allow_the_same(wanted, seed):
    grammar, reach = TuneGrammar(wanted), 6
    _, states = random_tune(grammar, seed)
    rng = random.Random(seed)
    for state in rng.sample(states, 5):
        clipped = state.clipped(reach).without_pitch()
        for _ in range(reach):
            allowed = [character for character in ALPHABET if grammar.step(state, character)]
            known = clipped._replace(note=state.note)  # what a tie needs is told apart
            assert allowed == [character for character in ALPHABET if grammar.step(known, character)]
            assert grammar.accepts(state) == grammar.accepts(clipped)
            untied = [character for character in ALPHABET if grammar.step(clipped, character) and character != TIE]
            assert untied == [character for character in allowed if character != TIE]
            if not allowed:
                break
            character = rng.choice(allowed)
            state, clipped = grammar.step(state, character), grammar.step(known, character)


RIGHT = [
    "A8|]",
    "|:A4 B4|c>d e<f g2 a2:|\n|:(3ABc (3:2:2d2e f4|1 z8:|2 [CEG]8||\nA8|]",
    '|:"G7"{cd}A4 ~B4|c>>d .e6::\nA8|1 A8 :|2 A8 |]',
    "^f'4 _B,,4|A/B/c/d/ e3/2f/ g//a//b3/2 c'2|]",
    "A8|:B8:|",
    "A8:|\nB8:|\n|:c8:|",
    "A2|B8|c6|]",
    "|:A2|B8|c6::A2|B8|c6:|",
    "|:A2|B8|1c6:|2c6||\nA2|B8|c6|]",
    "B4-B4-|B8|]",
    "^f4-f2 A2|^f8-|^f8|]",
    'A8-|"Am"A8-|(3A2B2c2 A4|A>B- B2 (3ABc- c2|(3c2c2-c2 c4|]',
    "(AB)(c2 d4)|(A2B6|c8)|]",
    "((3ABc) {d}(u^A>B) vc4|TA8|]",
    "A8|e2 A2\nB2 c2|A8|]",
    "A|A8|A5 A\nA :|",
]
WRONG = [
    *("A7|]", "A9|]", "A8", "A8|", "|:A8|]", "|:A8:|2 A8|]", "|:A8|1A8|]", "[A]8|]", "{}A8|]"),
    *("A2|B8|c8|]", "A8|B8|c6|]", "A/|B8|c15/2|]", "|:A2|B8|1c6:|2c8|]"),
    *("A8-|]", "A4-B4|]", "A8-|B8|]", "A4-z4|]", "A8-:|A8|]", "^f2 f6-|f8|]", "^f8-|f8|]", "[AC]4-[AC]4|]"),
    *(
        "A4\nB4|A8|]",
        "A8|A4\nB2\nB2|]",
        "A|A8|A6\nA:|",
        "A8|B4\n|c4|]",
        "(A8)|]",
        "(A4B4|]",
        "A4)B4|]",
        "(A4 (B4))|]",
        "(A4 z4)|]",
        "TA>B c6|]",
        "TA4-A4|]",
        "A8::B8:|",
    ),
    *("(3ABc A4|A8|]", "A>B4 c2|]", "(9ABcdefgab A8|]", '"H"A8|]', "A8|]\n\nA8|]", "A4|B5|]", "h8|]", "A0|]"),
]


@pytest.mark.parametrize("body", RIGHT)
def test_right_tunes(body, tmp_path):
    assert accepted(HEADER + body)
    assert abc2midi_complaints(HEADER + body, tmp_path) == []


@pytest.mark.parametrize("body", WRONG)
def test_wrong_tunes(body):
    assert not accepted(HEADER + body)


@pytest.mark.parametrize(
    "header", ["M:4/4\nL:1/8\nK:G\n", "X:1\nL:1/8\nK:G\n", "X:1\nM:4/4\nL:1/8\nK:H\n", "X:1 K:G\n"]
)
def test_wrong_headers(header):
    assert accepted(HEADER + "A8|]")
    assert not accepted(header + "A8|]")


def test_two_voices_have_the_same_bars():
    two = HEADER + "V:1\n|:A8|B8:|\nV:2\n|:C8|D8:|\nV:1\nA8|]\nV:2\nC8|]"
    assert accepted(two, voices=2)
    for wrong in (two.replace("D8", "D8|D8"), two.replace("C8|]", "C7|]"), two.partition("V:1\nA")[0] + "V:1\nA8|]"):
        assert not accepted(wrong, voices=2)
    upbeat = HEADER + "V:1\n|:A2|A8-|A6:|\nV:2\n|:C2|C8|D6:|\nV:1\nA2|A6|]\nV:2\nC2|C6|]"
    assert accepted(upbeat, voices=2)
    for wrong in (upbeat.replace("C2|C8", "C8|C8"), upbeat.replace("C6|]", "C8|]"), upbeat.replace("D6", "D8")):
        assert not accepted(wrong, voices=2)


@pytest.mark.parametrize(("key", "tonic", "fifth"), [("G", "G", "D"), ("F# minor", "F", "C"), ("Ador", "A", "E")])
def test_the_short_way_to_the_end_is_a_cadence_not_silence(key, tonic, fifth):
    grammar = TuneGrammar(TuneConstraints(key=key, bars=4, meter="7/8"))
    tune = grammar.completion(grammar.start())
    body = tune.partition(f"K:{key}\n")[2]
    assert re.findall("[A-Ga-gz]", body) == [fifth, tonic, fifth, tonic]
    assert "z" not in grammar.completion(grammar.walk(grammar.start(), f"X:1\nM:7/8\nL:1/8\nK:{key}\nA>"))


def test_text_around_a_tune():
    grammar = TuneGrammar(before=" ", after=" ")
    state = grammar.walk(grammar.start(), " " + HEADER + "A8|] ")
    assert grammar.accepts(state)
    assert grammar.completion(grammar.walk(grammar.start(), " " + HEADER + "A8")) == "|] "


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": "H"}, "key=H"),
        ({"meter": "6-8"}, "6/8"),
        ({"unit": "1/3"}, "unit=1/3"),
        ({"bars": 2, "sections": 3}, "bars=2"),
        ({"voices": 3}, "voices=3"),
        ({"bars": 0}, "bars=0"),
    ],
)
def test_impossible_constraints_are_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        TuneConstraints(**wrong)
