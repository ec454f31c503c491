"""Blind comparison: nothing tells who is who before the vote, and votes are data that DPO takes."""

import json
import stat

import pytest

from musician.generation.sampling import Sampling
from musician.web.jobs.duels import Duels
from musician.web.jobs.job import GenerationRequest
from musician.web.limits import Limits

from .conftest import ASK, Scripted, answer, events, serving, text_of, wait_for

SETTINGS = {"sampling": {"max_new_tokens": 50}, "seed": 5, "constraint": {"meter": "6/8"}}


@pytest.fixture
def votes(tmp_path):
    return tmp_path / "deep" / "votes.jsonl"


@pytest.fixture
def page(votes):
    with serving(Scripted("good ", "tune", name="old"), Scripted("bad", name="new"), votes=votes) as client:
        yield client


def duel(page, **body):
    return page.post("/api/duels", json={**ASK, **SETTINGS, **body}).json()["duel"]


def both(page, name):
    return {side: text_of(answer(page, duel=name, side=side)) for side in "ab"}


def vote(page, name, choice):
    return page.post(f"/api/duels/{name}/vote", json={"choice": choice})


def test_a_vote_becomes_a_preference(page, votes):
    name = duel(page)
    texts = both(page, name)
    told = vote(page, name, "b")
    assert told.status_code == 200
    assert {told.json()[side]: texts[side] for side in "ab"} == {"old": "good tune", "new": "bad"}
    [row] = map(json.loads, votes.read_text().splitlines())
    assert row["prompt"] == ASK["messages"]
    assert row["chosen"] == [{"role": "assistant", "content": texts["b"]}]
    assert row["rejected"] == [{"role": "assistant", "content": texts["a"]}]
    assert row["models"] == told.json()
    assert (row["choice"], row["seed"], row["constraint"]["meter"]) == ("b", 5, "6/8")
    assert row["sampling"]["max_new_tokens"] == 50
    assert stat.S_IMODE(votes.stat().st_mode) == 0o600


def test_nothing_tells_who_is_who(page):
    response = page.post("/api/duels", json=ASK)
    assert list(response.json()) == ["duel"]
    with page.stream("POST", "/api/generate", json={"duel": response.json()["duel"], "side": "a"}) as stream:
        told = list(events(stream))
        assert not [value for value in stream.headers.values() if value in ("old", "new", "m0", "m1")]
    assert {key for _, data in told for key in data} == {"seed", "text", "reason", "tokens", "seconds"}


def test_the_sides_are_drawn_by_lot(votes):
    old, new = Scripted("x", name="old"), Scripted("y", name="new")
    duels = Duels(100, votes)
    request = GenerationRequest(old, [], Sampling())
    drawn = [duels.find(duels.new([old, new], request)).requests["a"].model for _ in range(64)]
    assert 10 < drawn.count(old) < 54  # a fair coin leaves these bounds once in ten million runs


def test_the_vote_waits_for_both_answers_and_counts_once(page, votes):
    name = duel(page)
    assert vote(page, name, "a").status_code == 409
    answer(page, duel=name, side="a")
    assert vote(page, name, "a").status_code == 409
    assert page.post("/api/generate", json={"duel": name, "side": "a"}).status_code == 409
    answer(page, duel=name, side="b")
    assert vote(page, name, "a").status_code == 200
    again = vote(page, name, "b")
    assert again.status_code == 409
    assert list(again.json()) == ["error"]
    assert len(votes.read_text().splitlines()) == 1


def test_a_stopped_answer_may_be_asked_for_again(votes):
    endless = Scripted("x", name="endless", until_stopped=True)
    with serving(endless, endless, votes=votes) as page:
        name = duel(page)
        with page.stream("POST", "/api/generate", json={"duel": name, "side": "a"}) as response:
            next(events(response))
        wait_for(lambda: page.service.queue.running == 0)
        assert vote(page, name, "a").status_code == 409
        endless.until_stopped = False
        assert len(both(page, name)) == 2
        assert vote(page, name, "a").status_code == 200


@pytest.mark.parametrize("body", [{"choice": "c"}, {}, {"choice": "a", "more": 1}])
def test_a_vote_that_is_none(page, body):
    assert page.post(f"/api/duels/{duel(page)}/vote", json=body).status_code == 422


def test_what_there_is_not(page):
    assert vote(page, "nobody", "a").status_code == 404
    assert page.post("/api/generate", json={"duel": "nobody", "side": "a"}).status_code == 404
    assert page.post("/api/generate", json={"duel": duel(page)}).status_code == 422
    assert page.get("/api/setup").json()["duel"] is True
    with serving(Scripted("x")) as alone:
        assert alone.post("/api/duels", json=ASK).status_code == 404


def test_old_duels_are_forgotten(votes):
    with serving(Scripted("x"), Scripted("y"), votes=votes, limits=Limits(duels=2)) as page:
        names = [duel(page) for _ in range(3)]
        assert [vote(page, name, "a").status_code for name in names] == [404, 409, 409]


def test_votes_that_cannot_be_written_can_be_cast_later(page, votes):
    name = duel(page)
    both(page, name)
    votes.parent.write_text("in the way")
    response = vote(page, name, "a")
    assert response.status_code == 422
    assert "cannot be written" in response.json()["error"]
    votes.parent.unlink()
    assert vote(page, name, "a").status_code == 200


@pytest.fixture
def pairs(page, votes):
    """What `datasets` reads of four votes, of which two decide."""
    datasets = pytest.importorskip("datasets")
    for choice, constraint in (("a", None), ("tie", {"bars": 4}), ("b", {"meter": "6/8"}), ("neither", None)):
        name = duel(page, constraint=constraint)
        both(page, name)
        vote(page, name, choice)
    rows = datasets.load_dataset("json", data_files=str(votes), split="train", cache_dir=str(votes.parent / "cache"))
    assert rows["choice"][:] == ["a", "tie", "b", "neither"]
    return rows.filter(lambda row: row["chosen"] is not None)


def test_datasets_reads_the_votes_with_the_columns_of_dpo(pairs):
    assert len(pairs) == 2
    for row in pairs:
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert [message["role"] for message in row["chosen"] + row["rejected"]] == ["assistant"] * 2
        assert {row["chosen"][0]["content"], row["rejected"][0]["content"]} == {"good tune", "bad"}


def test_trl_takes_the_votes(pairs, byte_tokenizer):
    data_utils = pytest.importorskip("trl.data_utils")
    byte_tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    try:
        for row in pairs:
            assert data_utils.is_conversational(row)
            example = {name: row[name] for name in ("prompt", "chosen", "rejected")}
            told = data_utils.apply_chat_template(example, byte_tokenizer)
            assert told["chosen"].startswith(row["chosen"][0]["content"])
    finally:
        byte_tokenizer.chat_template = None
