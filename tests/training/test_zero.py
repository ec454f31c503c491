"""ZeRO on two CPU processes, by the command itself: the figures and weights of one process, at every stage."""

import json

import pytest
import torch
from safetensors.torch import load_file

from .toys import column, run_jobs

pytestmark = pytest.mark.slow

#: Eight steps, the last of two rows: one rank's second micro-batch is empty. Everything that can be trained is.
JOB = (
    *("+experiment=smoke", "logger=[csv]"),
    *("global_batch_size=4", "data.limit_train_rows=30", "lora.lora_dropout=0", "trainer.gradient_clip_val=0.5"),
    *("lora.modules_to_save=[embed_tokens,lm_head]", "benchmark=[held_out_tunes]"),
    *("callbacks.checkpoints.every_n_steps=5", "callbacks.checkpoints.keep=2"),
)
TWO = "hardware=cpu_2proc"
STAGES = {
    "1": (TWO, "hardware.strategy.stage=1"),
    "2": (TWO,),
    "2 offloaded": (TWO, "hardware.strategy.offload_optimizer=true"),
    # Nothing stays whole, and the weights are sharded before the optimiser is made.
    "3": (
        *(TWO, "hardware.strategy.stage=3", "hardware.strategy.persistence_threshold=0", "validate_at_start=true"),
        *("hardware.strategy.offload_optimizer=true", "hardware.strategy.offload_parameters=true"),
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The job in one process, at every stage in two, and continued at each from the middle of an epoch."""
    folder = tmp_path_factory.mktemp("zero")
    jobs = [("alone", 1, JOB), *((f"stage {stage}", 2, [*JOB, *options]) for stage, options in STAGES.items())]
    for stage in ("1", "2", "3"):
        options = [option for option in STAGES[stage] if option != "validate_at_start=true"]
        state = folder / f"stage {stage}" / "checkpoints" / "step-000005"
        jobs.append((f"resumed {stage}", 2, [*JOB, *options, f"ckpt_path='{state}'"]))
    run_jobs(folder, jobs)
    return folder


def adapter(run, step="last"):
    return load_file(run / "checkpoints" / step / "adapter" / "adapter_model.safetensors")


def check_equal_weights(run, other, tolerance):
    """Each matrix differs by at most this share of its norm."""
    one, two = adapter(run), adapter(other)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert (weight - two[name]).norm() <= tolerance * weight.norm(), name


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_give_the_figures_and_the_weights_of_one(runs, stage):
    """B24, B26: loss, gradient norm, rate, validation, benchmark; the adapter of any stage is whole."""
    alone, run = runs / "alone", runs / f"stage {stage}"
    benchmark = "eval/held_out_tunes/nats_per_token"
    for key in ("train/loss", "train/grad_norm", "train/lr", "train/tokens_seen", benchmark):
        assert len(column(alone, key)) == (2 if key == benchmark else 8)
        assert column(run, key) == pytest.approx(column(alone, key), rel=1e-5), key
    assert column(run, "val/loss")[-1] == pytest.approx(column(alone, "val/loss")[-1], rel=1e-5)
    check_equal_weights(alone, run, 1e-5)
    assert json.loads((run / "run.json").read_text())["config"]["hardware"]["devices"] == 2


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_a_resumed_run_ends_with_the_same_bits(runs, stage):
    """B28, at each stage: in processes that know nothing of the first ones."""
    whole, run = runs / f"stage {stage}", runs / f"resumed {stage}"
    assert column(run, "train/loss") == column(whole, "train/loss")[5:]
    wanted = adapter(whole)
    for name, weight in adapter(run).items():
        assert torch.equal(weight, wanted[name]), name
