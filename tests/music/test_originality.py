import random
import re
from fractions import Fraction

import pytest

from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import melody
from musician.music.analysis.originality import SEED, MelodyIndex
from musician.music.edit.rewrite import set_unit
from musician.music.edit.transpose import transpose


def longest_common_run(one, other):
    """The textbook table, a row at a time."""
    best, row = 0, [0] * (len(other) + 1)
    for left in one:
        row = [0] + [row[place] + 1 if left == right else 0 for place, right in enumerate(other)]
        best = max(best, *row)
    return best


def random_tune(rng, bars=16, pitches="CDEFGABcdef"):
    body = "|".join("".join(rng.choice(pitches) + rng.choice(("", "2", "/2")) for _ in range(6)) for _ in range(bars))
    return f"X:1\nM:none\nL:1/8\nK:C\n{body}|\n"


@pytest.fixture(scope="module")
def index(corpus_sample):
    return MelodyIndex(corpus_sample)


def test_longest_run_is_that_of_the_textbook_table(corpus_sample):
    known, asked = corpus_sample[:40], corpus_sample[40:52] + corpus_sample[:4]
    index = MelodyIndex(known)
    steps = [melody(parse_tune(text)) for text in known]
    for text in asked:
        best = max(longest_common_run(melody(parse_tune(text)), other) for other in steps)
        assert index.compare(text).run == (best + 1 if best >= SEED else 0)


@pytest.mark.parametrize("change", ["none", "key", "unit", "bars", "title"])
def test_a_copy_is_found_whatever_hides_it(index, corpus_sample, change):
    found = 0
    for text in corpus_sample[:60]:
        tune = parse_tune(text)
        if not tune.key.plain or len(list(tune.notes)) < 2 * SEED:
            continue
        hidden = {
            "none": lambda tune: tune.text,
            "key": lambda tune: transpose(tune, "F" if tune.key.tonic != "F" else "G"),
            "unit": lambda tune: set_unit(tune, Fraction(1, 32)),
            "bars": lambda tune: re.sub(r"(?<![|:\[\]])\|(?![|:\]0-9])", " ", tune.text),
            "title": lambda tune: re.sub(r"(?m)^T:.*$", "T:Another", tune.text),
        }[change](tune)
        result = index.compare(hidden)
        if change == "bars" and melody(parse_tune(hidden)) != melody(tune):
            continue  # without its bar lines an accidental goes on: another melody
        assert result.run == result.notes
        assert melody(parse_tune(corpus_sample[result.nearest])) == melody(tune)
        assert result.copied == result.windows
        found += 1
    assert found > 40 if change != "bars" else found > 20


def test_random_melodies_share_nothing(index):
    rng = random.Random(3)
    results = [index.compare(random_tune(rng)) for _ in range(50)]
    assert all(result.run == result.copied == 0 and result.nearest is None for result in results)
    assert all(result.windows == 9 for result in results)


def test_a_pasted_half_counts_its_windows_only():
    rng = random.Random(5)
    known = random_tune(rng)
    head, body = known.rsplit("K:C\n", 1)
    half = "|".join(body.split("|")[:8])
    fresh = random_tune(rng, 8).rsplit("K:C\n", 1)[1]
    result = MelodyIndex([random_tune(rng), known]).compare(f"{head}K:C\n{half}|{fresh}")
    assert (result.nearest, result.windows, result.copied) == (1, 9, 1)
    assert 48 <= result.run <= 50  # chance may lend a note


@pytest.mark.parametrize("text", ["", "prose only", "X:1\nK:C\n", "X:1\nK:C\nC|", "X:1\nK:C\nzzzz|"])
def test_what_has_no_melody_shares_none(index, text):
    result = index.compare(text)
    assert (result.run, result.windows, result.share) == (0, 0, 0.0)


def test_an_empty_index_knows_nothing(reel):
    assert MelodyIndex([]).compare(reel).run == 0


def test_repeated_figures_stay_fast(index):
    drone = "X:1\nM:4/4\nL:1/8\nK:C\n" + "CCCCCCCC|" * 500
    result = MelodyIndex([drone]).compare(drone)
    assert result.run == result.notes == 4000
