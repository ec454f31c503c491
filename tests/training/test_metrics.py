"""What is logged, and that measuring changes nothing."""

import io
import sys
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from musician.benchmarks.held_out_tunes import HeldOutTunes
from musician.benchmarks.question import LETTERS, Question, Subset
from musician.training.evaluation import Evaluations, gather_lists
from musician.training.progress import StepProgress

from .toys import adapted, data, fit

TUNES = ["X:1\nK:G\nGABc|", "X:2\nK:D\nd2 ef|"]
STEP_METRICS = {
    f"train/{name}"
    for name in ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "memory_gib", "tokens_seen", "skipped_steps")
}


class Quiz:
    """Four questions whose answer is A."""

    name, version, num_fewshot = "quiz", 1, 0
    subsets = (Subset("all", ("easy",)),)

    def questions(self):
        return [Question("quiz", "easy", i, f"question {i}", tuple(LETTERS), 0) for i in range(4)]

    def prompt(self, question, num_fewshot=None):
        return f"{question.stem}\nAnswer:"


class Draws(Callback):
    """Random numbers that the training would use next, before each step."""

    def __init__(self):
        self.states = []

    def on_train_batch_start(self, *_):
        self.states.append(torch.get_rng_state())


def evaluations(tunes, folder, **changes):
    benchmarks = {"held_out_tunes": HeldOutTunes(TUNES), "quiz": Quiz()}
    return Evaluations(benchmarks, data(tunes).renderer, folder, **changes)


@pytest.mark.parametrize("micro", [1, 4])
def test_each_optimiser_step_logs_each_name_once(tunes, micro):
    run = fit(tunes, epochs=2, micro=micro)
    entries = [values for _, values in run.log.entries if any(name.startswith("train/") for name in values)]
    assert len(entries) == 8
    assert all(set(entry) - {"epoch"} == STEP_METRICS for entry in entries)
    assert [step for step, values in run.log.entries if "train/loss" in values] == list(range(8))
    assert len(run.log.column("val/loss")) == 2


def test_counts_are_those_of_the_data(tunes):
    """Tokens that are not padding, and no skipped steps in full precision."""
    run = fit(tunes, rows=14, epochs=2)
    datamodule = data(tunes)
    datamodule.setup()
    in_epoch = [sum(batch["num_tokens"] for batch in datamodule._train_batches(epoch, 0)) for epoch in (0, 1)]
    seen = run.log.column("train/tokens_seen")
    assert (seen[3], seen[7]) == (in_epoch[0], sum(in_epoch))
    assert set(run.log.column("train/skipped_steps")) == {0.0}
    assert all(0 < share < 2 for share in run.log.column("train/mfu"))
    assert all(speed > 0 for speed in run.log.column("train/tokens_per_second"))


def test_memory_is_at_most_what_the_system_says(tunes):
    run = fit(tunes, max_steps=1)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert 0.05 < run.log.column("train/memory_gib")[0] <= peak / 2**20 * 1.01


def test_benchmarks_are_logged_beside_the_losses(tunes, tmp_path):
    run = fit(tunes, epochs=2, callbacks=[evaluations(tunes, tmp_path)])
    names = {"eval/held_out_tunes/nats_per_token", "eval/held_out_tunes/bits_per_note", "eval/quiz/all"}
    entries = [(step, values) for step, values in run.log.entries if names <= set(values)]
    assert [step for step, _ in entries] == [0, 4, 8]
    first, last = entries[0][1], entries[-1][1]
    assert last["eval/held_out_tunes/nats_per_token"] < first["eval/held_out_tunes/nats_per_token"]
    assert last["eval/quiz/all/n"] == 4
    for step in (0, 4, 8):
        folder = tmp_path / f"step-{step:06d}"
        assert (folder / "results.json").is_file()
        assert len((folder / "quiz" / "predictions.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(("every", "at_start", "steps"), [(1, False, [4, 8, 12]), (2, True, [0, 8, 12])])
def test_benchmarks_run_when_asked_and_always_at_the_end(tunes, tmp_path, every, at_start, steps):
    fit(tunes, epochs=3, callbacks=[evaluations(tunes, tmp_path, every_n_epochs=every, at_start=at_start)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:06d}" for step in steps]


def test_training_goes_on_as_if_no_benchmark_had_run(tunes, tmp_path):
    """With dropout on: the same random numbers, losses and weights."""
    with_draws, without_draws = Draws(), Draws()
    options = {"epochs": 2}
    with_benchmarks = fit(tunes, network=adapted(0.1), callbacks=[evaluations(tunes, tmp_path), with_draws], **options)
    without = fit(tunes, network=adapted(0.1), callbacks=[without_draws], **options)
    assert with_benchmarks.log.column("train/loss") == without.log.column("train/loss")
    assert with_benchmarks.log.column("val/loss") == without.log.column("val/loss")
    assert all(torch.equal(a, b) for a, b in zip(with_draws.states, without_draws.states, strict=True))
    for name, weight in without.weights().items():
        assert torch.equal(weight, with_benchmarks.weights()[name])


def test_every_submodule_gets_its_own_mode_back(tunes, tmp_path):
    network = adapted(0.1).train()
    frozen = network.get_base_model().model.layers[1].eval()
    modes = {name: module.training for name, module in network.named_modules()}
    trainer = SimpleNamespace(
        global_step=0, world_size=1, global_rank=0, is_global_zero=True, callback_metrics={}, loggers=[]
    )
    evaluations(tunes, tmp_path).run(trainer, SimpleNamespace(network=network, device=torch.device("cpu")))
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert not frozen.training
    assert network.training
    assert "eval/quiz/all" in trainer.callback_metrics, "so that a sweep or a checkpoint can look at it"


def test_an_evaluation_takes_part_in_what_is_best(tunes, tmp_path):
    """Benchmarks are over before the checkpoint of the epoch is written."""
    from musician.model.checkpoint import read_description

    fit(tunes, tmp_path / "checkpoints", callbacks=[evaluations(tunes, tmp_path / "eval")])
    assert "eval/quiz/all" in read_description(tmp_path / "checkpoints" / "last")["metrics"]


def test_the_history_survives_a_resume(tunes, tmp_path):
    callback, other = evaluations(tunes, tmp_path), evaluations(tunes, tmp_path)
    fit(tunes, callbacks=[callback])
    assert list(callback.history) == [0, 4]
    other.load_state_dict(callback.state_dict())
    assert other.history == callback.history


def test_one_rank_gathers_its_own_list():
    assert gather_lists([1, 2], 1) == [1, 2]


def test_progress_shows_the_first_and_the_last_step(tunes, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    run = fit(tunes, epochs=2, callbacks=[StepProgress(plain_interval=20)])
    lines = [line for line in stderr.getvalue().splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["1/8", "8/8"]
    assert f"loss {run.log.column('train/loss')[-1]:.3f}" in lines[-1]
