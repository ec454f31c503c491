import json
import math

import pytest
from scipy import stats

from musician.benchmarks.tunes.written_comparison import compare_written, percentiles, read_generations
from musician.runtime.errors import UserError


def written(values, family="chords_to_tune"):
    return [
        {"family": family, "place": place, "prompt": f"tune {place}", "values": found}
        for place, found in enumerate(values)
    ]


def test_differences_are_paired_and_their_interval_is_the_normal_one():
    a = written([{"bars/right": value} for value in (0.1, 0.5, 0.9, 0.4)])
    b = written([{"bars/right": value} for value in (0.3, 0.6, 0.9, 0.8)])
    found = compare_written(a, list(reversed(b)))["bars/right"]
    gaps = [0.2, 0.1, 0.0, 0.4]
    half = stats.norm.ppf(0.975) * stats.sem(gaps)
    assert (found.n, found.a, found.b) == (4, pytest.approx(0.475), pytest.approx(0.65))
    assert (found.low, found.high) == (pytest.approx(0.175 - half), pytest.approx(0.175 + half))
    assert found.separable


def test_a_measure_counts_where_both_have_it():
    a, b = written([{"x": 1.0}, {}, {"x": 0.0}]), written([{"x": 1.0}, {"x": 1.0}, {"x": 1.0}])
    assert compare_written(a, b)["x"].n == 2
    single = compare_written(a[:1], b[:1])["x"]
    assert math.isnan(single.low)
    assert not single.separable


def test_percentiles_are_mid_ranks_of_scipy_and_lower_distances_rank_higher():
    a, b = [3, 5, 0, 7], [4, 5, 9, 1]
    runs = {name: written([{"control/chords_distance": d} for d in values]) for name, values in (("a", a), ("b", b))}
    runs["a"] += written([{"control/form_distance": 0}], family="terms_only")
    found = percentiles(runs)["control/chords_distance"]
    for name, values in (("a", a), ("b", b)):
        ranks = [100 - stats.percentileofscore(a + b, value, kind="mean") for value in values]
        assert found[name] == pytest.approx(sum(ranks) / len(ranks))
    assert found["a"] + found["b"] == pytest.approx(100)


def test_an_answer_without_a_tune_ranks_last():
    runs = {"a": written([{"control/chords_distance": 50}]), "b": written([{}])}
    assert percentiles(runs) == {"control/chords_distance": {"a": 75, "b": 25}}


def test_other_requests_are_refused():
    with pytest.raises(UserError, match="no request is in both runs"):
        compare_written(written([{}]), [{**written([{}])[0], "prompt": "another"}])


def test_a_training_run_gives_its_last_evaluation(tmp_path):
    assert read_generations(tmp_path) is None
    for step in (200_000, 1_600_000):
        folder = tmp_path / "eval" / f"step-{step:06d}" / "generation"
        folder.mkdir(parents=True)
        (folder / "generations.jsonl").write_text(json.dumps({"step": step}) + "\n")
    assert read_generations(tmp_path) == [{"step": 1_600_000}]
