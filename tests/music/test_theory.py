"""Sets of theory questions: balanced, distinct, repeatable, and not to be told from the options alone."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from musician.music.theory.items import TOPICS, TUNE_TOPICS, make_items
from musician.runtime.errors import UserError


@pytest.fixture(scope="module")
def many():
    """Ten thousand items and some, of all difficulties."""
    return {level: make_items(80, 11, level) for level in (1, 2, 3)}


def test_there_are_topics_enough_and_each_is_checked():
    assert len(TOPICS) == 42
    assert set(TUNE_TOPICS) == {"key_of_tune"}
    checks = "".join(path.read_text() for path in Path(__file__).parent.glob("test_theory_*.py"))
    assert [topic for topic in (*TOPICS, *TUNE_TOPICS) if f'"{topic}"' not in checks] == []


def test_ten_thousand_items_are_sound_and_distinct(many):
    items = [item for level in many.values() for item in level]
    assert len(items) >= 10_000
    assert all(len(set(item.options)) == 4 and all(item.options) for item in items)
    assert len({item.stem for item in items}) >= 0.95 * len(items)
    for level in many.values():
        assert len({(item.topic, item.stem) for item in level}) == len(level)


def test_each_topic_has_hundreds_of_questions():
    assert len(make_items(240, 4, 1)) == 240 * len(TOPICS)


def test_letters_are_balanced_and_out_of_order(many):
    for items in many.values():
        assert set(Counter(item.answer for item in items).values()) == {len(items) // 4}
        topics = {item.topic for item in items}
        assert all(Counter(i.answer for i in items if i.topic == t)[0] == 20 for t in topics)
    odd = Counter(item.answer for item in make_items(3, 2, topics=["enharmonic", "chord_root", "wrong_bar"]))
    assert sorted(odd.values()) == [2, 2, 2, 3]
    orders = {tuple(item.answer for item in make_items(4, seed, topics=["cadence_type"])) for seed in range(20)}
    assert len(orders) > 8


def test_the_same_seed_gives_the_same_set_in_every_process():
    script = (
        "import sys, hashlib; from musician.music.theory.items import make_items;"
        "print(hashlib.sha256(repr(make_items(3, 5, 2)).encode()).hexdigest(), 'music21' in sys.modules)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].split()[1] == "False"
    assert make_items(3, 5) != make_items(3, 6)


def test_questions_of_a_topic_depend_neither_on_their_number_nor_on_the_others():
    few, more = make_items(2, 3, topics=["scale_degree"]), make_items(9, 3)
    same = [item for item in more if item.topic == "scale_degree"][:2]
    assert [(item.stem, set(item.options)) for item in few] == [(item.stem, set(item.options)) for item in same]


def test_difficulty_changes_every_topic(many):
    """Of 80 questions on a topic, 60 or more are not among those of another level."""

    def stems(level, topic):
        return {item.stem for item in many[level] if item.topic == topic}

    assert [topic for topic in TOPICS if len(stems(1, topic) & stems(3, topic)) > 20] == []
    lengths = [sum(len(item.stem) for item in many[level]) for level in (1, 2, 3)]
    assert lengths == sorted(lengths)
    double = [sum("##" in item.stem or "bb" in item.stem for item in many[level]) for level in (1, 2, 3)]
    assert double[:2] == [0, 0]
    assert double[2] > 0


def test_options_alone_tell_little(many):
    """One who learns from another set how often each option is right stays near 25 %."""
    right, seen = Counter(), Counter()
    for item in make_items(60, 1, 2):
        seen.update((item.topic, option) for option in item.options)
        right[item.topic, item.options[item.answer]] += 1
    hits, items = 0, many[2]
    for item in items:
        rates = [(right[item.topic, each] + 1) / (seen[item.topic, each] + 4) for each in item.options]
        hits += rates.index(max(rates)) == item.answer
    assert hits / len(items) < 0.31


def test_notes_of_abc_stems_can_be_read(many):
    music = [item.stem for item in many[2] if "\nK:" in item.stem]
    assert len(music) > 0.4 * len(many[2])
    assert all(re.search(r"\nK:\S+\n\| .* \|$", stem) for stem in music)


def test_what_cannot_be_made_is_said(corpus_sample):
    with pytest.raises(UserError, match="difficulty=4"):
        make_items(1, 0, 4)
    with pytest.raises(UserError, match="no topic 'chords'"):
        make_items(1, 0, topics=["chords"])
    with pytest.raises(UserError, match="real tunes"):
        make_items(1, 0, topics=["key_of_tune"])
    with pytest.raises(UserError, match="only about"):
        make_items(10_000, 0, topics=["key_of_tune"], tunes=corpus_sample[:3])
    assert {item.topic for item in make_items(1, 0, tunes=corpus_sample)} == {*TOPICS, *TUNE_TOPICS}
