"""A benchmark is one class and one YAML: two are defined here, and run by musician.eval and by a training."""

import json
from types import SimpleNamespace

import pytest
import torch
from commands import assert_ran, call

from musician.benchmarks.benchmark import Benchmark, Result
from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.estimate import accuracy
from musician.data.rendering.render import Renderer
from musician.training.callbacks.evaluation import Evaluations

from .toys import byte_tokenizer, opened, tiny_llama

MODULE = '''
from musician.benchmarks.multiple_choice.base import MultipleChoice
from musician.benchmarks.multiple_choice.question import Question


class Parity(MultipleChoice):
    """Whether a number is even."""

    def __init__(self, count=4, scorer=None):
        options = ("yes", "no", "never", "perhaps")
        questions = [Question("parity", i, f"Is {i} even?", options, i % 2) for i in range(count)]
        super().__init__("parity", questions, scorer=scorer)
'''
YAML = "# @package benchmark.parity\n_target_: parity_benchmark.Parity\ncount: 6\nscorer: null\n"


class Certainty(Benchmark):
    """Share of texts after which one token has more than half of the probability: no questions at all."""

    name = "certainty"

    def run(self, model, shard):
        texts = ["one", "two", "three"]
        local = []
        for i in shard.mine(len(texts)):
            ids = torch.tensor([model.tokenizer(texts[i])["input_ids"]])
            with torch.no_grad(), model.autocast():
                local.append(bool(model.network(ids).logits[0, -1].softmax(-1).max() > 0.5))
        return Result(self.name, {"sure": accuracy(shard.gather_in_order(local, len(texts)))})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the new benchmark's module and YAML, and a model."""
    (tmp_path / "parity_benchmark.py").write_text(MODULE)
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark" / "parity.yaml").write_text(YAML)
    tiny_llama().save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_command_runs_a_benchmark_of_one_class_and_one_yaml(folder):
    asked = ["benchmark=[parity]", f"hydra.searchpath=[file://{folder}/conf]", "hydra.run.dir=scores"]
    written = ["generative.asking=plain", "generative.chat=false", "generative.max_new_tokens=2"]
    outcome = call("eval", "model=model", "benchmark.parity.count=5", *asked, *written, cwd=folder)
    assert_ran(outcome)
    assert "parity/all" in outcome.stdout
    results = json.loads((folder / "scores" / "results.json").read_text())["benchmarks"]
    assert list(results) == ["parity", "parity_generative"]
    assert results["parity"]["eval/parity/all/n"] == 5
    for name in results:
        assert len((folder / "scores" / name / "predictions.jsonl").read_text().splitlines()) == 5


def test_a_training_runs_benchmarks_with_and_without_questions(folder, monkeypatch):
    from parity_benchmark import Parity

    tokenizer, network = byte_tokenizer(), tiny_llama().train()
    callback = Evaluations({"parity": Parity(), "certainty": Certainty()}, Renderer(tokenizer), folder / "eval")
    trainer = SimpleNamespace(
        global_step=0, global_rank=0, world_size=1, precision="32-true", callback_metrics={}, loggers=[]
    )
    callback.run(trainer, SimpleNamespace(network=network, device=torch.device("cpu")))
    results = json.loads((folder / "eval" / "step-000000" / "results.json").read_text())
    assert results["eval/parity/all/n"] == 4
    assert results["eval/certainty/sure/n"] == 3
    figures = {"eval/parity/parity", "eval/parity/all", "eval/certainty/sure"}
    assert set(trainer.callback_metrics) == figures | {"eval/parity/step", "eval/certainty/step"}
    assert network.training


def test_only_benchmarks_of_questions_have_some(folder):
    from parity_benchmark import Parity

    model = opened(tiny_llama(), byte_tokenizer())
    assert Certainty().questions() == ()
    assert len(Parity().questions()) == 4
    assert Certainty().run(model, Shard()).tables(folder) == {}
