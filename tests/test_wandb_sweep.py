"""A sweep as W&B's agents take it: by W&B's own schema, and through its own search and agent up to Hydra."""

import json
from itertools import product

import pytest
import yaml
from commands import CONF, assert_ran, assert_refused, call, composed, options
from sweeps.config.cfg import schema_violations_from_proposed_config
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

import sweeps as wandb_search
from musician.cli.entry import check_keys
from musician.wandb_sweep import definition


def assert_valid(content):
    assert schema_violations_from_proposed_config(content) == []


def proposed(content, count):
    """What W&B's search proposes, and what its agent would then start, without the interpreter."""
    runs = []
    for _ in range(count):
        run = wandb_search.next_run(content, runs)
        if run is None:
            break
        runs.append(run.model_copy(update={"state": wandb_search.RunState.finished}))
        words = create_sweep_command(list(content["command"]))
        values = json.loads(json.dumps(run.config, default=lambda number: number.item()))  # as the server sends it
        arguments = create_sweep_command_args({"args": values})["args_no_hyphens"]
        place = words.index("${args_no_hyphens}")
        yield [*words[:place], *arguments, *words[place + 1 :]]


@pytest.mark.parametrize("name", options("sweep"))
def test_every_sweep_is_a_grid_of_the_same_jobs(tmp_path, name):
    outcome = call("wandb_sweep", name, "+experiment=sft", "hardware=8xv100", cwd=tmp_path)
    assert_ran(outcome)
    assert list(tmp_path.iterdir()) == []
    content = yaml.safe_load(outcome.stdout)
    assert_valid(content)
    assert (content["method"], content["metric"]) == ("grid", {"name": "val/loss", "goal": "minimize"})
    params = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    grid = {frozenset(zip(params, values, strict=True)) for values in product(*(v.split(",") for v in params.values()))}
    found = set()
    for words in proposed(content, 100):
        assert words[:4] == ["${env}", "${interpreter}", "-m", "musician.train"]
        config = composed("train", *words[4:])
        check_keys(config, "train")
        assert config.logger.wandb.offline is False
        assert config.hardware.name == "8xv100"
        swept = [word.partition("=")[::2] for word in words if word.partition("=")[0] in params]
        found.add(frozenset((key, value.lower()) for key, value in swept))
    assert found == grid


def test_intervals_lists_and_fixed_values(tmp_path):
    params = {
        "optimizer.lr": "tag(log, interval(1e-5, 1e-3))",
        "lora.r": "int(tag(log, interval(2, 64)))",
        "lora.lora_dropout": "interval(0.0, 0.5)",
        "seed": "int(interval(1, 9))",
        "trainer.max_epochs": "range(1,4)",
        "lora.target_modules": "[q_proj],[q_proj,v_proj]",
        "global_batch_size": "16",
    }
    content = definition(params, ["+experiment=smoke"], "eval/theory/all", "maximize", "random")
    assert_valid(content)
    with pytest.raises(AssertionError):
        assert_valid({**content, "method": "rndom"})
    assert content["parameters"]["trainer.max_epochs"] == {"values": [1, 2, 3]}
    for words in proposed(content, 10):
        config = composed("train", *words[4:])
        assert 1e-5 <= config.optimizer.lr <= 1e-3
        assert config.lora.r in range(2, 65)
        assert 0 <= config.lora.lora_dropout <= 0.5
        assert config.seed in range(1, 10)
        assert config.trainer.max_epochs in (1, 2, 3)
        assert list(config.lora.target_modules) in (["q_proj"], ["q_proj", "v_proj"])
        assert config.global_batch_size == 16


def test_wandb_stops_the_worse_jobs_early(tmp_path):
    outcome = call("wandb_sweep", "lora_rank", "early_terminate=2", cwd=tmp_path)
    assert_ran(outcome)
    content = yaml.safe_load(outcome.stdout)
    assert_valid(content)
    assert "early_terminate" not in " ".join(content["command"])
    curves = {"good": [3.0, 2.5, 2.0], "fair": [3.0, 2.7, 2.6], "bad": [3.0, 3.0, 3.0], "young": [9.0, 9.0]}
    running = wandb_search.RunState.running
    runs = [
        wandb_search.SweepRun(name=name, state=running, sampledHistory=[{"val/loss": value} for value in values])
        for name, values in curves.items()
    ]
    assert [run.name for run in wandb_search.stop_runs(content, runs)] == ["bad"], "a young one is left alone"
    assert_refused(call("wandb_sweep", "lora_rank", "early_terminate=soon", cwd=tmp_path), "early_terminate=soon")


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("hydra: {sweeper: {params: {optimizer.lr: 'interval(1e-5, 1e-3)'}}}\n")
    outcome = call("wandb_sweep", "mine.yaml", "+experiment=smoke", cwd=tmp_path)
    assert_ran(outcome)
    assert yaml.safe_load(outcome.stdout)["method"] == "bayes"
    assert_refused(
        call("wandb_sweep", "mine.yaml", "+experiment=smoke", "method=grid", cwd=tmp_path), "interval", "optimizer.lr"
    )


def test_what_cannot_be_is_refused(tmp_path):
    assert_refused(call("wandb_sweep", "lora_rnk", cwd=tmp_path), "did you mean 'lora_rank'")
    assert_refused(call("wandb_sweep", "lora_rank", "logger=[csv]", cwd=tmp_path), "add wandb")
    (tmp_path / "empty.yaml").write_text("seed: 1\n")
    assert_refused(call("wandb_sweep", "empty.yaml", cwd=tmp_path), "hydra.sweeper.params")
    assert_refused(call("wandb_sweep", "lora_rank", "method=best", cwd=tmp_path), "method=best")
