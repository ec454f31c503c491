"""What a plan says against what real ranks hold, and what autograd saves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from doors import assert_ran, assert_refused, call
from training.zero_bytes_ranks import network

from musician.model.memory import activation_bytes, state_bytes
from musician.model.network import hidden_states, random_llama
from musician.model.optimizer import parameter_groups

ROOT = Path(__file__).parents[1]


def real_ranks(stage, kind, out):
    """Bytes that two processes counted in their tensors."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    script = ROOT / "tests" / "training" / "zero_bytes_ranks.py"
    done = subprocess.run(
        [sys.executable, str(script), str(stage), kind, str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kind"), [(1, "lora"), (2, "lora"), (2, "all"), (3, "lora")])
def test_every_byte_of_weights_gradients_and_optimiser_is_planned(stage, kind, tmp_path):
    planned = network(kind == "lora")
    groups = [[p.numel() for p in group["params"]] for group in parameter_groups(planned, 0.1) if group["params"]]
    frozen = [p.numel() for p in planned.parameters() if not p.requires_grad]
    memory = state_bytes(groups, frozen, stage, ranks=2, itemsize=4)
    found = real_ranks(stage, kind, tmp_path / "found.json")
    assert found == {"weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer}


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
