"""Documents in rows: every document once, no row too long, as few rows as textbook best-fit decreasing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.packing import one_document_a_row, pack

from .oracles import best_fit_decreasing

PROBLEMS = st.integers(1, 40).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), min_size=1, max_size=120), st.just(capacity))
)


@settings(deadline=None, max_examples=300)
@given(problem=PROBLEMS)
def test_every_document_stands_in_one_row_and_no_row_is_too_long(problem):
    lengths, capacity = problem
    rows = pack(lengths, capacity)
    assert sorted(rows.documents.tolist()) == list(range(len(lengths)))
    assert all(1 <= sum(lengths[document] for document in rows[row]) <= capacity for row in range(len(rows)))
    assert rows.offsets[0] == 0
    assert rows.offsets[-1] == len(lengths)


@settings(deadline=None, max_examples=300)
@given(problem=PROBLEMS)
def test_the_rows_are_those_of_textbook_best_fit_decreasing(problem):
    """The oracle places one document at a time. Among rows with equal room any will do, so how full they are counts."""
    lengths, capacity = problem
    expected = sorted(map(sum, best_fit_decreasing(lengths, capacity)))
    assert sorted(pack(lengths, capacity).sums(np.array(lengths)).tolist()) == expected


@given(problem=PROBLEMS)
def test_packing_is_a_function_of_the_lengths(problem):
    lengths, capacity = problem
    one, other = pack(lengths, capacity), pack(np.array(lengths, dtype=np.uint16), capacity)
    assert np.array_equal(one.documents, other.documents)
    assert np.array_equal(one.offsets, other.offsets)


@pytest.mark.parametrize("capacity", [1024, 2048])
def test_rows_of_realistic_documents_are_full(capacity):
    """Tunes and conversations have lengths near a log-normal; at least 99 % of the places are used."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.5, 0.8, 20_000), 8, capacity).astype(int)
    rows = pack(lengths, capacity)
    assert lengths.sum() / (len(rows) * capacity) >= 0.99
    assert len(rows) == len(best_fit_decreasing(lengths.tolist(), capacity))


@given(problem=PROBLEMS, data=st.data())
def test_sums_add_up_a_value_over_each_row(problem, data):
    lengths, capacity = problem
    values = data.draw(st.lists(st.integers(0, 60_000), min_size=len(lengths), max_size=len(lengths)))
    rows = pack(lengths, capacity)
    expected = [sum(values[document] for document in rows[row]) for row in range(len(rows))]
    assert rows.sums(np.array(values, dtype=np.uint16)).tolist() == expected


@given(number=st.integers(0, 20))
def test_without_packing_row_i_is_document_i(number):
    rows = one_document_a_row(number)
    assert [rows[row].tolist() for row in range(len(rows))] == [[document] for document in range(number)]
    assert rows.sums(np.arange(number)).tolist() == list(range(number))


@pytest.mark.parametrize("lengths", [[5, 11], [0, 3]])
def test_a_document_that_fits_no_row_is_refused(lengths):
    with pytest.raises(ValueError, match=r"1\.\.10"):
        pack(lengths, 10)


def test_no_documents_are_no_rows():
    assert len(pack([], 10)) == 0
