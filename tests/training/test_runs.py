"""Whole runs through `python -m musician.train`, each in processes of its own."""

import json
import math
import os
import signal
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from .toys import column

pytestmark = pytest.mark.slow

ROWS = ("global_batch_size=4", "data.limit_train_rows=30")
PLAIN = (*ROWS, "lora.lora_dropout=0", "trainer.gradient_clip_val=0.5")
STEPS = 8
CONSTANT = (
    "recipe.schedule._target_=musician.model.schedule.Constant",
    "~recipe.schedule.warmup_ratio",
    "~recipe.schedule.floor",
)
#: Two epochs with dropout. The rate is constant, because `trainer.max_steps` would shorten a curve.
TWO_EPOCHS = (*ROWS, *CONSTANT, "trainer.max_epochs=2", "lora.lora_dropout=0.1", "callbacks.evaluations.at_start=false")


@pytest.fixture(scope="module")
def reference(command_line):
    """One row at a time in one process."""
    return command_line("micro1", *PLAIN)[0]


def adapter(run):
    return load_file(run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")


def check_same_bits(run, other):
    one, two = adapter(run), adapter(other)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name


@pytest.mark.parametrize("micro", [2, 4])
def test_the_micro_batch_changes_nothing(command_line, reference, micro):
    """B26."""
    run, _ = command_line(f"micro{micro}", *PLAIN, f"hardware.micro_batch_size={micro}")
    for key in ("train/loss", "train/grad_norm", "val/loss"):
        assert len(column(reference, key)) == (1 if key == "val/loss" else STEPS)
        assert column(run, key) == pytest.approx(column(reference, key), rel=1e-5 if "norm" in key else 1e-6), key


def test_the_readmes_rate_is_logged_at_every_step(reference):
    """B19: 5 % linear warm-up, half a cosine to zero."""
    warmup = math.ceil(0.05 * STEPS)
    assert warmup == 1
    wanted = [1e-3, *(1e-3 * 0.5 * (1 + math.cos(math.pi * (step - 1) / (STEPS - 1))) for step in range(1, STEPS))]
    assert column(reference, "train/lr") == pytest.approx(wanted, rel=1e-6)


def test_the_scripts_rate_is_logged_at_every_step(command_line):
    """B19: logarithmic warm-up from a tenth, linear decay back to it, each an update late as under DeepSpeed."""
    run, _ = command_line("code", *PLAIN, "recipe=code")
    warmup, wanted = 2, []
    for step in (0, *range(STEPS - 1)):
        gamma = math.log(step + 1) / math.log(warmup) if step < warmup else (STEPS - step) / (STEPS - warmup)
        wanted.append(1e-3 * (0.1 + 0.9 * gamma))
    assert column(run, "train/lr") == pytest.approx(wanted, rel=1e-6)


def test_the_run_directory_says_how_it_came_about(reference):
    """B35."""
    record = json.loads((reference / "run.json").read_text())
    assert "lora.lora_dropout=0" in record["overrides"]
    assert record["config"]["lora"]["lora_dropout"] == 0
    assert record["config"]["global_batch_size"] == 4
    assert record["data_key"] in record["data_path"]
    assert len(record["tokenizer_hash"]) == 16
    assert {"torch", "peft", "deepspeed", "musician"} <= set(record["versions"])
    assert {"commit", "dirty"} == set(record["git"])
    assert (reference / ".hydra" / "config.yaml").is_file()


def test_a_finished_run_is_not_overwritten(command_line, reference):
    before = (reference / "csv" / "metrics.csv").read_bytes()
    process = command_line.start("micro1", *PLAIN)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: " in output.splitlines()[-1]
    assert "already holds a run" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert (reference / "csv" / "metrics.csv").read_bytes() == before


@pytest.fixture(scope="module")
def undisturbed(command_line):
    return command_line("whole", *TWO_EPOCHS)[0]


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        pytest.param("inside", ("trainer.max_steps=5", "callbacks.checkpoints.every_n_steps=5")),
        pytest.param("boundary", ("trainer.max_epochs=1",)),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(command_line, undisturbed, name, stop):
    """B28."""
    run, _ = command_line(name, *TWO_EPOCHS, *stop)
    command_line(name, *TWO_EPOCHS, f"ckpt_path={run}", "allow_changed_config=true")
    check_same_bits(run, undisturbed)


def test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step(command_line):
    """Rank 1 alone gets it; rank 0 ends with the code that asks for the same command again."""
    long = ("hardware=cpu_2proc", "benchmark=[]", "trainer.max_epochs=40", "callbacks.checkpoints.every_n_steps=2")
    process = command_line.start("signalled", *long)
    last = command_line.folder / "signalled" / "checkpoints" / "last"
    while not last.exists() and process.poll() is None:
        time.sleep(0.05)
    commands = {each.pid: " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
    (rank,) = (pid for pid, words in commands.items() if str(last.parents[1]) in words and pid != process.pid)
    os.kill(rank, signal.SIGUSR1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert "Traceback" not in output
    step = int(last.resolve().name.removeprefix("step-"))
    assert f"a signal to another rank: stopped after step {step}, saved in" in output
    assert {file.name for file in last.iterdir()} >= {"state.ckpt", "adapter", "checkpoint.json"}
