"""Tunes in running text: a labelled set, some of it from what models and READMEs print."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.music.abc.extract import count_notes, extract_music, extract_tunes, is_music
from musician.music.abc.reader import parse_tune

PROSE = [
    "",
    "A bad cabbage, a faded cafe: Abe fed a deaf cad.",
    "| Name | Value |\n|------|-------|\n| Key | 3 |",
    'I saw 3 deer; it is 5/8 of a mile (see e.g. Fig. 2) -- "the best" [1].',
    "K: is the key field, M: the meter. The form is AABB.",
    "if a | b and c: d = e  # a comment",
    "Human: Develop a tune in D major with 32 bars. </s> Assistant: Sure!",
    "The chords are C, F, G and Am; the melody climbs from C to G.",
]
WITH_TUNES = [
    ("X:1 L:1/16 M:2/4 K:G G2BG dGBG|c2ec B2dB|] hope you like it", [13]),
    ("Sure!\n```abc\nX: 1\nT:Foo\nK:D\nABcd|e4|]\n```\nThis is nice.", [5]),
    ("X:1\nX:1\nT:Music21 Fragment\nK:C\nC|D|\nprose is here now.\n\nX:2\nK:C\nE|</s> Human: more A B C", [2, 1]),
    ("> X:3\n> K:C\n> CDE|\n\nThat was all.", [3]),
    ("X:1\nK:C\nCDEF|\nw:a bad cab face\nGABc|]\n\nIt ends on c.", [8]),
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_holds_no_note(text: str) -> None:
    assert count_notes(text) == 0
    assert not any(is_music(line) for line in text.split("\n") if not line.startswith("|"))


@pytest.mark.parametrize(("text", "counts"), WITH_TUNES)
def test_tunes_are_found_and_end_where_they_end(text: str, counts: list[int]) -> None:
    found = extract_tunes(text)
    assert [sum(note.midi is not None for note in parse_tune(each.abc).notes) for each in found] == counts
    assert all(text[each.start : each.start + 2] == "X:" for each in found)


def test_fragments_count_below_fields_or_with_bar_lines() -> None:
    assert count_notes("L:1/8\nK:D\nABc") == 3
    assert count_notes("Listen: \n\nA2 B2 | c4 |\n\nnow.") == 3
    assert extract_music("no music") == []


def test_real_tunes_survive_being_talked_about(corpus_sample: list[str]) -> None:
    for text in corpus_sample[::5]:
        (found,) = extract_tunes(f"Here is a tune for you:\n\n{text}\n\nI hope that it is to your liking.")
        assert list(parse_tune(found.abc).notes) == list(parse_tune(text).notes)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="XKL:1 \nABcd|]/>`%w</s>", max_size=200))
def test_any_text_is_searched(text: str) -> None:
    for each in extract_tunes(text):
        assert 0 <= each.start < each.end <= len(text)
        assert count_notes(each.abc) > 0
