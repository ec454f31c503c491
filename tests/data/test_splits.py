"""Which split a family belongs to."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.data.rendering.conversation import Conversation, Document, Message
from musician.data.store.splits import family_of, is_held_out

from .oracles import same_tune_in_g, tune_in_c

NAMES = [f"family {number}" for number in range(20_000)]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_the_share_held_out_is_near_the_fraction(fraction):
    """Within five standard deviations of 20,000 draws."""
    share = sum(is_held_out(name, fraction) for name in NAMES) / len(NAMES)
    assert abs(share - fraction) < 5 * (fraction * (1 - fraction) / len(NAMES)) ** 0.5


@given(family=st.text(), seed=st.integers())
def test_nothing_is_held_out_of_0_and_everything_of_1(family, seed):
    assert not is_held_out(family, 0.0, seed)
    assert is_held_out(family, 1.0, seed)


@given(family=st.text(), low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers())
def test_a_larger_fraction_only_adds_families(family, low, high, seed):
    low, high = sorted((low, high))
    assert is_held_out(family, low, seed) <= is_held_out(family, high, seed)


def test_another_seed_holds_out_others():
    first, second = ([name for name in NAMES if is_held_out(name, 0.1, seed)] for seed in (0, 1))
    overlap = len(set(first) & set(second))
    assert 0 < overlap < 0.2 * len(first), "about a tenth by chance"


def test_the_choice_is_the_same_in_another_process():
    """Not Python's hash(), which changes from run to run."""
    code = "from musician.data.store.splits import is_held_out; print([is_held_out(f'family {n}', .5, 3) for n in range(64)])"  # noqa: E501
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([is_held_out(name, 0.5, 3) for name in NAMES[:64]])


@pytest.mark.parametrize("seed", range(5))
def test_a_tune_in_another_key_under_another_title_is_family(seed):
    """B13: also inside an instruction."""
    tune = tune_in_c(seed)
    copy = same_tune_in_g(tune, "Quite Another")
    asked = Conversation((Message("user", "Tell me the key.\n" + copy), Message("assistant", "G major")))
    assert family_of(Document(tune)) == family_of(Document(copy)) == family_of(asked)
    assert family_of(Document(tune)) != family_of(Document(tune_in_c(seed + 1)))


def test_prose_is_family_up_to_case_and_blanks():
    assert family_of(Document("A Reel\n in D")) == family_of(Document("a  reel in d "))
    assert family_of(Document("a reel in d")) != family_of(Document("a reel in e"))
