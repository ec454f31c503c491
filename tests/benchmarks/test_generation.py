import json
import re

import pytest
from torch import nn

from musician.benchmarks.shard import Shard
from musician.benchmarks.tunes.generation import FAMILIES, Generation
from musician.data.sources.corpus import iter_tunes
from musician.generation.answers import Answers
from musician.generation.sampling import Sampling
from musician.runtime.errors import UserError

from .toys import byte_tokenizer, opened, tiny_llama

TUNES = [tune.text for tune in iter_tunes()][:60:3]


class Copyist:
    """Answers what people wrote."""

    def __init__(self):
        self.known = {}
        self.asked = []

    def __call__(self, model, conversations, seeds, on_written=None):
        self.asked += list(zip([each[-1].content for each in conversations], seeds, strict=True))
        return [self.known[each[-1].content] for each in conversations]


def measure(benchmark, network=None, shard=None):
    return benchmark.run(opened(network or nn.Linear(1, 1), byte_tokenizer()), shard or Shard())


def means(result):
    return {**result.estimates, **result.more}


def made(write, **changes):
    benchmark = Generation(TUNES, write, **{"per_family": 3, **changes})
    write.known = {task.prompt: task.answer for _, task in benchmark.requests}
    return benchmark


def test_people_measure_as_people(tmp_path):
    benchmark = made(Copyist(), known=TUNES)
    result = measure(benchmark)
    result.write(tmp_path / "generation")
    shown = result.metrics() | result.details()
    pairs = [name for name in means(result) if not name.startswith("human/")]
    assert len(pairs) > 40
    for name in pairs:
        assert means(result)[name] == means(result)[f"human/{name}"]
    assert shown["eval/generation/originality/shared"] == 1
    assert shown["eval/generation/originality/copied_windows"] == 1
    assert shown["eval/generation/format/header"] == 1
    assert shown["eval/generation/without_tune"] == 0
    assert shown["eval/generation/text_to_abc/control/key"] == 1
    lines = [json.loads(line) for line in (tmp_path / "generation" / "generations.jsonl").read_text().splitlines()]
    assert len(lines) == shown["eval/generation/requests"]
    again = sum(line["values"]["format/strict"] for line in lines) / len(lines)
    assert again == pytest.approx(shown["eval/generation/format/strict"])
    assert (tmp_path / "generation" / "generation.png").stat().st_size > 10_000


def test_prose_has_no_tune_and_only_its_format_counts():
    benchmark = Generation(TUNES, lambda *_: ["I would rather not."] * len(benchmark.requests), per_family=2)
    result = measure(benchmark)
    assert result.counts["without_tune"] == len(benchmark.requests)
    own = {name for name in means(result) if not name.startswith("human/") and name.count("/") == 1}
    assert own == {name for name in own if name.startswith("format/")}
    assert all(means(result)[name].value == 0 for name in own)


def test_processes_share_the_requests_and_agree():
    whole = made(Copyist())
    alone = measure(whole)
    parts = [made(Copyist()) for _ in range(2)]
    local = []
    for rank, part in enumerate(parts):
        with pytest.raises(RuntimeError, match="stop here"):
            measure(part, shard=Shard(rank, 2, lambda sent: collect(local, sent)))
    first = measure(parts[0], shard=Shard(0, 2, lambda sent: local))
    assert means(first) == means(alone)
    assert [sample.seed for sample in first.records["generations.jsonl"]] == list(range(len(whole.requests)))
    assert not set(parts[1].write.asked) & set(parts[0].write.asked)


def collect(local, sent):
    local.append(sent)
    raise RuntimeError("stop here")


def test_requests_are_the_same_every_time_and_no_more_than_asked():
    one, other = made(Copyist()), made(Copyist())
    assert one.requests == other.requests
    counts = {name: sum(task.name == name for _, task in one.requests) for name in FAMILIES}
    assert max(counts.values()) == 3


@pytest.mark.parametrize(
    ("tunes", "families", "said"),
    [
        (TUNES, ["text_to_abd"], "no kind of task 'text_to_abd' (did you mean 'text_to_abc'?)"),
        ([], FAMILIES, "no held-out tune gives a request; raise data.validation_fraction"),
    ],
)
def test_what_cannot_be_asked_is_refused(tunes, families, said):
    with pytest.raises(UserError, match=re.escape(said)):
        Generation(tunes, Copyist(), families=families)


def test_sharded_parameters_are_refused():
    network = nn.Linear(1, 1)
    network.weight.ds_id = 0
    with pytest.raises(UserError, match="not under ZeRO-3"):
        measure(made(Copyist()), network)


def test_a_model_held_to_the_grammar_writes_tunes(tokenizer):
    write = Answers(Sampling(temperature=1.0, max_new_tokens=600), constrained=True)
    benchmark = Generation(TUNES, write, families=["text_to_abc"], per_family=2)
    result = benchmark.run(opened(tiny_llama(), tokenizer), Shard())
    assert means(result)["format/strict"].value == 1
    assert len({sample.answer for sample in result.records["generations.jsonl"]}) == 2


def test_some_tunes_of_every_family_are_seen_and_heard(tmp_path):
    def illustrate(texts, folder):
        folder.mkdir()
        for number, text in enumerate(texts[: len(FAMILIES)]):
            (folder / f"{number:03}.wav").write_text(text)

    benchmark = made(Copyist(), illustrate=illustrate)
    result = measure(benchmark)
    result.write(tmp_path / "generation")
    columns, rows = result.tables(tmp_path / "generation")["tunes"]
    assert columns[-2:] == ["score", "sound"]
    families = list(dict.fromkeys(sample.family for sample in result.records["generations.jsonl"]))
    assert [row[0] for row in rows[: len(families)]] == families
    for row in rows:
        assert row[3] is None
        assert row[4].read_text() == row[2]
    assert made(Copyist()).illustrate is None
