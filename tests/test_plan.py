"""What a plan says against what real ranks hold, and what autograd saves."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from commands import assert_ran, assert_refused, call
from forked_python import forked_python
from training.zero_bytes_ranks import CASES, network

from musician.model.memory import activation_bytes, state_bytes
from musician.model.network import hidden_states, random_llama
from musician.model.optimizer import parameter_groups

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def real_ranks(tmp_path_factory):
    """Bytes that two processes counted in their tensors, by case."""
    out = tmp_path_factory.mktemp("bytes") / "found.json"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [forked_python(), str(ROOT / "tests" / "training" / "zero_bytes_ranks.py"), str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kind", "dtype"), CASES)
def test_every_byte_of_weights_gradients_and_optimiser_is_planned(real_ranks, stage, kind, dtype):
    planned = network(kind == "lora")
    groups = [[p.numel() for p in group["params"]] for group in parameter_groups(planned, 0.1) if group["params"]]
    frozen = [p.numel() for p in planned.parameters() if not p.requires_grad]
    memory = state_bytes(groups, frozen, stage, ranks=2, itemsize=2 if dtype == "fp16" else 4)
    wanted = {"weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer}
    assert real_ranks[f"{stage}-{kind}-{dtype}"] == wanted


def saved_by_autograd(llama, rows, length):
    """Bytes of the distinct storages, apart from weights, that a real forward pass keeps."""
    own = {p.untyped_storage().data_ptr() for p in llama.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long)
    packed = (torch.arange(length) % 20).expand(rows, length)  # two or more documents a row
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden_states(llama, ids, packed)
    return sum(storage.nbytes() for storage in seen.values())


@pytest.mark.parametrize(("rows", "length", "layers"), [(1, 64, 3), (2, 33, 5)])
def test_activations_are_what_a_real_packed_row_saves(rows, length, layers):
    llama = random_llama(103, num_hidden_layers=layers)
    planned = activation_bytes(llama.to("meta"), rows, length, layers, checkpointing=False)
    real = saved_by_autograd(random_llama(103, num_hidden_layers=layers), rows, length)
    assert planned == pytest.approx(real, rel=0.05)


def test_the_papers_job_is_planned_offline(tmp_path):
    outcome = call("plan", "+experiment=sft", "hardware=8xv100", "hydra.run.dir=run", cwd=tmp_path)
    assert_ran(outcome)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    # r 64 on seven projections of 32 layers, embedding and head in full, counted by hand.
    assert plan["trainable"] == 159_907_840 + 2 * 32_000 * 4_096
    assert plan["batch"] == {"micro_batch_size": 1, "accumulation": 1, "ranks": 8, "global_batch_size": 8}
    assert plan["memory"]["total"] == sum(v for k, v in plan["memory"].items() if k != "total") < plan["card_bytes"]


def test_what_does_not_fit_is_refused_with_what_does(tmp_path):
    arguments = ("+experiment=sft", "hardware=8xv100", "hardware.micro_batch_size=64", "global_batch_size=512")
    outcome = call("plan", *arguments, cwd=tmp_path)
    assert_refused(outcome, "hardware=8xv100", "GiB", "hardware.micro_batch_size=1")


def test_what_two_changes_make_fit_is_named(tmp_path):
    arguments = ("+experiment=sft", "hardware=8xv100", "hardware.micro_batch_size=8", "global_batch_size=64")
    small = ("hardware.memory_gib=15", "hardware.gradient_checkpointing=false")
    outcome = call("plan", *arguments, *small, cwd=tmp_path)
    assert_refused(outcome, "use hardware.gradient_checkpointing=true hardware.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hardware.precision=bf16-mixed"], ["sm_70", "has no bf16", "use 16-mixed"]),
        (["hardware.attn_implementation=flash_attention_2"], ["sm_70", "use sdpa"]),
        (["hardware.strategy=auto"], ["precision=16-mixed", "use ZeRO"]),
        (["global_batch_size=12"], ["is not a multiple of 8", "use hardware.devices=6"]),
        (["hardware.micro_batch_size=3", "global_batch_size=32"], ["use hardware.micro_batch_size=2"]),
        (["hardware.devices=1", "hardware.micro_batch_size=1", "global_batch_size=0"], ["use global_batch_size=1"]),
    ],
)
def test_an_impossible_choice_is_refused_with_the_nearest_possible_one(tmp_path, arguments, words):
    """On a machine that has none of these cards."""
    assert_refused(call("plan", "+experiment=sft", "hardware=8xv100", *arguments, cwd=tmp_path), *words)
