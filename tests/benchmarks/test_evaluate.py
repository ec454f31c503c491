import json
import threading

import pytest
import torch

from musician.benchmarks.multiple_choice.question import LETTERS
from musician.benchmarks.multiple_choice.records import read_records
from musician.benchmarks.multiple_choice.result import subset_accuracies
from musician.benchmarks.shard import Shard
from musician.runtime.errors import UserError

from .toys import OracleLM, Quiz, byte_tokenizer, evaluate, tiny_llama

FIELDS = {
    *("benchmark", "subject", "index", "num_fewshot", "shots_kept", "logprobs", "prediction", "gold", "num_tokens"),
    *("tie", "letter_mass", "prompt_sha256", "prompt_version", "method", "truncated", "bos"),
    "prompt_style",
    "chat",
    "repeat",
    "order",
    "response",
    "read_by",
}


@pytest.fixture
def quiz():
    """The oracle answers D, A, B, C, A (a tie), D; four are right."""
    stems = ["4", "1", "22 1", "3", "no mark", "4"]
    return Quiz(stems, [3, 0, 1, 2, 2, 0], ["easy", "easy", "easy", "hard", "hard", "hard"])


def test_accuracies_of_the_oracle(quiz, tokenizer):
    result = evaluate(quiz, OracleLM(tokenizer), tokenizer)
    assert result.metrics() == {
        "eval/quiz/macro": pytest.approx(2 / 3),
        "eval/quiz/micro": pytest.approx(4 / 6),
        "eval/quiz/easy": 1.0,
        "eval/quiz/hard": pytest.approx(1 / 3),
    }
    details = result.details()
    assert (details["eval/quiz/micro/n"], details["eval/quiz/easy/n"], details["eval/quiz/ties"]) == (6, 3, 1)
    assert 0 < details["eval/quiz/easy/ci95_low"] < 1 == details["eval/quiz/easy/ci95_high"]
    records = result.records["predictions.jsonl"]
    assert "".join(record.prediction for record in records) == "DABCAD"
    assert {(record.bos, record.prompt_version) for record in records} == {("<s>", 3)}


def test_records_give_the_logged_accuracy_again(quiz, tokenizer, tmp_path):
    path = tmp_path / "new" / "predictions.jsonl"
    result = evaluate(quiz, OracleLM(tokenizer), tokenizer)
    result.write(path.parent)
    assert list(path.parent.iterdir()) == [path]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(set(line) == FIELDS for line in lines)
    assert [(line["subject"], line["index"]) for line in lines] == [(q.subject, q.index) for q in quiz.questions()]
    again = [LETTERS[line["logprobs"].index(max(line["logprobs"]))] == line["gold"] for line in lines]
    assert sum(again) / len(again) == result.estimates["micro"].value
    assert subset_accuracies(read_records(path), quiz.subsets) == result.estimates


def test_records_that_are_missing_or_broken_are_named(tmp_path):
    with pytest.raises(UserError, match="no predictions at"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match=r"broken.jsonl:1 is not a prediction record"):
        read_records(tmp_path / "broken.jsonl")


class Ranks:
    """Runs one function on several threads that can exchange what they have."""

    def __init__(self, size):
        self.size, self.slots = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=20)

    def shard(self, rank):
        return Shard(rank, self.size, lambda item: self.exchange(rank, item))

    def exchange(self, rank, item):
        self.slots[rank] = item
        self.barrier.wait()
        together = list(self.slots)
        self.barrier.wait()
        return together

    def run(self, function):
        results = [None] * self.size
        threads = [threading.Thread(target=lambda r=r: results.__setitem__(r, function(r))) for r in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.mark.parametrize("world_size", [2, 4, 8])
@pytest.mark.parametrize("merges", [(), (("Ġ", "B"),)])
def test_every_rank_runs_as_many_forwards_and_finds_the_same(world_size, merges, quiz):
    tokenizer, ranks = byte_tokenizer(merges), Ranks(world_size)
    networks = [OracleLM(tokenizer) for _ in range(world_size)]

    results = ranks.run(lambda rank: evaluate(quiz, networks[rank], tokenizer, shard=ranks.shard(rank), batch_size=1))
    alone = evaluate(quiz, OracleLM(tokenizer), tokenizer)
    assert len({network.forwards for network in networks}) == 1
    assert [r.estimates for r in results] == [alone.estimates] * world_size
    assert [r.records for r in results] == [alone.records] * world_size


def test_what_was_not_by_the_book_is_counted_and_said(caplog):
    tokenizer = byte_tokenizer(merges=[("Ġ", "C")])
    quiz = Quiz(["short 4", "very long " * 20], [3, 0], num_fewshot=3)
    result = evaluate(quiz, OracleLM(tokenizer), tokenizer, max_length=80)
    assert [result.counts[name] for name in ("fallbacks", "shots_dropped", "truncated")] == [2, 2, 1]
    assert "letter_mass" not in result.counts
    for sentence in (
        "2 of 2 questions were shown fewer examples",
        "1 of 2 questions did not fit",
        "scored by four forwards",
    ):
        assert sentence in caplog.text


def test_scores_that_are_not_finite_count_as_wrong(quiz, tokenizer, tmp_path, caplog):
    network = OracleLM(tokenizer)
    network.head.weight.data.fill_(torch.nan)
    result = evaluate(quiz, network, tokenizer)
    result.write(tmp_path)
    assert (result.counts["non_finite"], result.estimates["micro"].value) == (6, 0.0)
    assert json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])["logprobs"] == [None] * 4
    assert "6 of 6 questions gave scores that are not finite" in caplog.text


def test_audit_is_no_fallback(quiz, tokenizer):
    audited = evaluate(quiz, OracleLM(tokenizer), tokenizer, method="audit")
    assert audited.counts["fallbacks"] == 0
    assert audited.metrics() == evaluate(quiz, OracleLM(tokenizer), tokenizer).metrics()


def test_a_changed_prompt_changes_the_hash(tokenizer):
    results = [evaluate(Quiz([stem], [0]), OracleLM(tokenizer), tokenizer) for stem in ("1", "1", "2")]
    assert len({result.records["predictions.jsonl"][0].prompt_sha256 for result in results}) == 2


def test_impossible_calls_are_refused(quiz, tokenizer):
    with pytest.raises(ValueError, match="needs an exchange"):
        Shard(0, 2)
    with pytest.raises(UserError, match="has no questions"):
        evaluate(Quiz([], []), OracleLM(tokenizer), tokenizer)


def test_real_llama_class_end_to_end(quiz, tokenizer):
    one = evaluate(quiz, tiny_llama(1), tokenizer)
    assert one.estimates == evaluate(quiz, tiny_llama(1), tokenizer, batch_size=2).estimates
    assert 0 < one.counts["letter_mass"] < 1
