"""Mixtures: by weight at every point, repeated by epochs, a function of their arguments."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musician.data.sources.mixture import MixtureSource, Part
from musician.data.sources.source import RowSource
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import read_meta
from musician.runtime.errors import UserError

from .oracles import write_jsonl


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return [
        write_jsonl(folder / f"{name}.jsonl", [{"text": f"{name}{number}"} for number in range(40 + 20 * place)])
        for place, name in enumerate("abc")
    ]


def texts(source):
    return [row.values["text"] for row in source.rows()]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.lists(st.floats(0.05, 20), min_size=1, max_size=3),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_every_beginning_holds_the_parts_by_weight(files, weights, epochs, seed):
    parts = [Part(RowSource(file), weight, epochs) for file, weight in zip(files, weights, strict=False)]
    found = texts(MixtureSource(parts, seed))
    assert found == texts(MixtureSource(parts, seed))
    for length in range(len(found) + 1):
        for name, weight in zip("abc", weights, strict=False):
            share = length * weight / sum(weights)
            assert abs(sum(text[0] == name for text in found[:length]) - share) < len(weights)
    for place, name in enumerate("abc"[: len(weights)]):
        mine = [text for text in found if text[0] == name]
        assert mine == [f"{name}{number % (40 + 20 * place)}" for number in range(len(mine))], (
            "in order, again and again"
        )
    used_up = [sum(t[0] == name for t in found) == epochs * (40 + 20 * p) for p, name in enumerate("abc")]
    assert any(used_up), "it ends with the first part that is used up"


def test_the_taken_rows_stand_in_meta(files, byte_renderer, tmp_path):
    source = MixtureSource([Part(RowSource(files[0]), 2), Part(RowSource(files[1]), 1)], limit=30)
    meta = read_meta(prepare(source, byte_renderer, Recipe(64), tmp_path))
    assert [part["rows_taken"] for part in meta["source"]["parts"]] == [20, 10]
    assert meta["rows_in"] == 30
    json.dumps(meta)


def test_identity_follows_every_argument(files):
    a, b = RowSource(files[0]), RowSource(files[1])
    sources = [
        MixtureSource([Part(a), Part(b)]),
        MixtureSource([Part(b), Part(a)]),
        MixtureSource([Part(a, 2.0), Part(b)]),
        MixtureSource([Part(a, 1.0, 2), Part(b)]),
        MixtureSource([Part(a), Part(b)], seed=1),
        MixtureSource([Part(a), Part(b)], limit=3),
    ]
    assert len({source.identity() for source in sources}) == len(sources)


def test_faults_are_named(files):
    with pytest.raises(UserError, match="at least one part"):
        MixtureSource([])
    for weight, epochs in ((0.0, 1), (float("nan"), 1), (1.0, 0)):
        with pytest.raises(UserError, match=r"parts\[0\]: weight="):
            MixtureSource([Part(RowSource(files[0]), weight, epochs)])
