from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.music.analysis.melody_index import RunIndex

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6)


def codes(symbols):
    return np.array(symbols, np.uint64)


def known_runs(sequences, size):
    """Where each run without a 0 stands, by the plainest search."""
    found = defaultdict(set)
    for number, symbols in enumerate(sequences):
        for place in range(len(symbols) - size + 1):
            run = tuple(symbols[place : place + size])
            if 0 not in run:
                found[run].add((number, place))
    return found


@given(SEQUENCES, st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_every_shared_run_is_found_and_no_other(sequences, asked, size):
    index = RunIndex([codes(symbols) for symbols in sequences], size)
    begins, places = index.find(codes(asked))
    owners = index.owners(places)
    found = set(zip(begins.tolist(), owners.tolist(), (places - index.starts[owners]).tolist(), strict=True))
    expected = known_runs(sequences, size)
    assert found == {
        (begin, *where)
        for begin in range(len(asked) - size + 1)
        for where in expected.get(tuple(asked[begin : begin + size]), ())
    }


@given(SEQUENCES, st.integers(1, 3), st.integers(1, 2))
def test_runs_that_many_groups_have_are_left_out(sequences, size, common):
    groups = [number // 2 for number in range(len(sequences))]
    index = RunIndex([codes(symbols) for symbols in sequences], size, groups, common)
    for run, where in known_runs(sequences, size).items():
        kept = len({groups[number] for number, _ in where}) <= common
        assert len(index.find(codes(run))[1]) == (len(where) if kept else 0)


@pytest.mark.parametrize("size", [1, 5])
def test_an_empty_index_finds_nothing(size):
    assert [found.tolist() for found in RunIndex([], size).find(codes([1, 2, 3, 4, 5]))] == [[], []]
