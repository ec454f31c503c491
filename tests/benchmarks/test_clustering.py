import math
import random
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.benchmarks.statistics.estimate import accuracy, clustered_standard_error

answers = st.lists(st.booleans(), min_size=2, max_size=30)


@given(answers)
def test_singletons_give_the_usual_standard_error(values):
    error = clustered_standard_error(values, range(len(values)))
    assert error == pytest.approx(stdev(map(float, values)) / math.sqrt(len(values)), abs=1e-12)
    assert error == pytest.approx(accuracy(values).stderr, abs=1e-12)


@given(answers, st.integers(1, 5))
def test_asking_again_without_a_new_answer_adds_no_certainty(values, repeats):
    error = clustered_standard_error(values * repeats, list(range(len(values))) * repeats)
    assert error == pytest.approx(clustered_standard_error(values, range(len(values))), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=20))
def test_equal_clusters_give_the_error_of_their_means(groups):
    error = clustered_standard_error([v for g in groups for v in g], [i for i, g in enumerate(groups) for _ in g])
    assert error == pytest.approx(stdev(sum(g) / 3 for g in groups) / math.sqrt(len(groups)), abs=1e-12)


def test_independent_repeats_do_add_certainty():
    rng = random.Random(0)
    values = [rng.random() < 0.5 for _ in range(4000)]
    clusters = [i // 4 for i in range(4000)]
    assert clustered_standard_error(values, clusters) == pytest.approx(0.5 / math.sqrt(4000), rel=0.1)


def test_order_does_not_matter_and_one_cluster_has_no_error():
    assert clustered_standard_error([1, 0, 1, 1], "aabb") == clustered_standard_error([1, 1, 0, 1], "abab")
    assert math.isnan(clustered_standard_error([1, 0], "aa"))
    with pytest.raises(ValueError, match="0 values"):
        clustered_standard_error([], [])
    with pytest.raises(ValueError, match="2 values and 1 clusters"):
        clustered_standard_error([1, 0], "a")
