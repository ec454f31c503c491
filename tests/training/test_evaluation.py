"""Benchmarks inside training: when they run, what they leave, and that measuring changes nothing."""

import json
import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import WandbLogger

from musician.benchmarks.benchmark import Benchmark, Result
from musician.benchmarks.multiple_choice.base import MultipleChoice
from musician.benchmarks.multiple_choice.question import LETTERS, Question
from musician.benchmarks.statistics.estimate import Estimate
from musician.benchmarks.tunes.held_out_tunes import HeldOutTunes
from musician.runtime.errors import UserError
from musician.training.callbacks.evaluation import Evaluations
from musician.training.runs.summary import summarise

from .toys import adapted, data, fit

TUNES = ["X:1\nK:G\nGABc|", "X:2\nK:D\nd2 ef|"]


class Quiz(MultipleChoice):
    """Four questions whose answer is A."""

    def __init__(self):
        super().__init__("quiz", [Question("easy", i, f"question {i}", tuple(LETTERS), 0) for i in range(4)])


class Draws(Callback):
    """Random numbers that the training would use next, before each step."""

    def __init__(self):
        self.states = []

    def on_train_batch_start(self, *_):
        self.states.append(torch.get_rng_state())


class Tables(WandbLogger):
    """Keeps the tables it is given."""

    def __init__(self, tables):
        self.tables = tables

    def log_table(self, key, columns=None, data=None, **_):
        self.tables.append((key, columns, data))

    def log_metrics(self, *_, **__):
        pass

    def log_image(self, *_, **__):
        pass


def a_trainer(step, **changes):
    """What the callback asks a trainer."""
    facts = {"precision": "32-true", "world_size": 1, "global_rank": 0, "is_global_zero": True}
    facts |= {"callback_metrics": {}, "loggers": []}
    return SimpleNamespace(global_step=step, **{**facts, **changes})


def evaluations(tunes, folder, **changes):
    benchmarks = {"held_out_tunes": HeldOutTunes(TUNES), "quiz": Quiz()}
    return Evaluations(benchmarks, data(tunes).renderer, folder, **changes)


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
    trainer = a_trainer(step=0)
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


class Broken(Benchmark):
    """A benchmark that fails from the second time on."""

    name = "broken"

    def __init__(self):
        self.times = 0

    def run(self, model, shard):
        self.times += 1
        if self.times > 1:
            raise RuntimeError("CUDA out of memory\nmore about it")
        return Result(self.name, {"times": Estimate(1.0)})


def test_a_benchmark_that_fails_does_not_stop_the_training(tunes, tmp_path, capsys):
    benchmarks = {"broken": Broken(), "quiz": Quiz()}
    run = fit(tunes, epochs=2, callbacks=[Evaluations(benchmarks, data(tunes).renderer, tmp_path)])
    assert run.trainer.global_step == 8
    said = "evaluation at step 4: broken failed (RuntimeError: CUDA out of memory); training goes on"
    assert said in capsys.readouterr().err
    results = json.loads((tmp_path / "step-000004" / "results.json").read_text())
    assert results["eval/broken/failed"] == 1.0
    assert results["failed"] == ["broken failed (RuntimeError: CUDA out of memory)"]
    assert "eval/quiz/all" in results, "the other benchmark ran"
    assert "more about it" in (tmp_path / "step-000004" / "broken_rank0_error.txt").read_text()
    assert run.log.column("eval/broken/failed") == [1.0, 1.0]


def test_cheap_benchmarks_run_between_the_epoch_ends(tunes, tmp_path):
    callback = evaluations(tunes, tmp_path, every_n_steps=2, step_benchmarks=["quiz"], at_start=False)
    fit(tunes, epochs=2, callbacks=[callback])
    assert list(callback.history) == [2, 4, 6, 8]
    with_tunes = [step for step, found in callback.history.items() if "eval/held_out_tunes/tunes" in found]
    assert with_tunes == [4, 8]
    assert all("eval/quiz/all" in found for found in callback.history.values())


def test_what_is_beyond_the_time_budget_is_skipped_and_said(tunes, tmp_path, capsys):
    callback = evaluations(tunes, tmp_path, time_budget=100.0)
    callback.seconds = {"quiz": 60.0}
    module = SimpleNamespace(network=adapted(), device=torch.device("cpu"))
    callback.run(a_trainer(step=4), module, budget=50.0)
    assert json.loads((tmp_path / "step-000004" / "results.json").read_text())["skipped"] == ["quiz"]
    assert "skipped, beyond the time budget: quiz" in capsys.readouterr().err
    callback.run(a_trainer(step=6), module, budget=70.0)
    assert "eval/quiz/all" in callback.history[6]
    assert callback.seconds["quiz"] < 60.0


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"every_n_epochs": 0}, {"step_benchmarks": ["quizz"]}])
def test_impossible_schedules_are_refused(tunes, tmp_path, options):
    with pytest.raises(UserError, match=next(iter(options))):
        evaluations(tunes, tmp_path, **options)


def test_the_answers_that_changed_are_listed(tunes, tmp_path, capsys):
    """Two of four answers change; the records are edited by hand, and the table must say exactly these."""
    callback = Evaluations({"quiz": Quiz()}, data(tunes).renderer, tmp_path)
    module = SimpleNamespace(network=adapted(), device=torch.device("cpu"))
    tables = []
    trainer = a_trainer(step=0, loggers=[Tables(tables)])
    callback.run(trainer, module)
    file = tmp_path / "step-000000" / "quiz" / "predictions.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    now = [record["prediction"] for record in records]
    for place in (1, 3):
        records[place]["prediction"] = next(letter for letter in "BCD" if letter != now[place])
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    trainer.global_step = 4
    callback.run(trainer, module)
    gained = sum(now[place] == "A" for place in (1, 3))
    assert f"since step 0 2 answers changed: {gained} are right now, 0 no longer" in capsys.readouterr().err
    ((key, columns, rows),) = tables
    assert key == "eval/quiz/changed"
    assert [dict(zip(columns, row, strict=True))["index"] for row in rows] == [1, 3]
    assert [dict(zip(columns, row, strict=True))["stem"] for row in rows] == ["question 1", "question 3"]


def test_a_chart_shows_the_intervals(tunes, tmp_path):
    evaluations(tunes, tmp_path).run(a_trainer(step=0), SimpleNamespace(network=adapted(), device=torch.device("cpu")))
    assert (tmp_path / "step-000000" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_early_stopping_and_the_best_checkpoint_follow_a_benchmark(tunes, tmp_path):
    """A benchmark that gets worse from the second evaluation on: patience 1 ends the run, the best is the first."""
    worse = Worsening()
    stopping = EarlyStopping(monitor="eval/worse/loss", patience=1, check_on_train_epoch_end=True)
    callback = Evaluations({"worse": worse}, data(tunes).renderer, tmp_path / "eval", at_start=False)
    run = fit(
        tunes, tmp_path / "checkpoints", epochs=9, callbacks=[callback, stopping], monitor="eval/worse/loss", keep=3
    )
    assert run.trainer.global_step == 8
    assert "eval/worse/loss" in summarise(run.trainer, None, (0, 0)).stopped
    assert (tmp_path / "checkpoints" / "best").resolve().name == "step-000004"


class Worsening(Benchmark):
    """Measures how often it was asked."""

    name = "worse"

    def __init__(self):
        self.times = 0

    def run(self, model, shard):
        self.times += 1
        return Result(self.name, {"loss": Estimate(float(self.times))})


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("place", ["questions", "records"])
def test_no_rank_waits_for_one_that_failed(tmp_path, tunes, failing, place):
    """Two real processes; where one fails, before its share or after it, both say so and both go on to the next."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    options = (tunes, tmp_path, failing, place, queue)
    ranks = [context.Process(target=one_rank, args=(rank, *options)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert all("eval/quiz/failed" in found[rank] and "eval/second/all" in found[rank] for rank in (0, 1))


def one_rank(rank, tunes, folder, failing, place, queue):
    """Evaluate a benchmark that fails on some ranks, then another."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    first, second = Quiz(), Quiz()
    second.name = "second"
    if rank in failing and place == "questions":
        first.questions = lambda: 1 / 0
    if rank in failing and place == "records":
        first.subsets = None
    callback = Evaluations({"quiz": first, "second": second}, data(tunes).renderer, folder)
    trainer = a_trainer(step=4, global_rank=rank, world_size=2, is_global_zero=rank == 0)
    callback.run(trainer, SimpleNamespace(network=adapted(), device=torch.device("cpu")))
    queue.put((rank, dict.fromkeys(callback.history[4])))
    torch.distributed.destroy_process_group()
