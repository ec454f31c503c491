"""What DeepSpeed is told, and that it does it (B20, B21)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.training.strategy import ZeroStrategy


def leaves(node, path=""):
    """Every value of a nested config with its path."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, child in items:
        yield from leaves(child, f"{path}.{key}")


@given(st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.integers(4, 20), st.integers(1, 2000))
@settings(deadline=None, max_examples=30)
def test_the_config_says_what_was_asked_and_nothing_is_auto(stage, optimizer, parameters, power, window):
    """B20: DeepSpeed drops `auto` fields without a word, so the original's offload never happened."""
    strategy = ZeroStrategy(stage, 4, optimizer, parameters, power, window)
    assert [path for path, value in leaves(strategy.config) if value == "auto"] == []
    zero = strategy.config["zero_optimization"]
    assert zero["stage"] == stage
    assert ("offload_optimizer" in zero) is optimizer
    assert ("offload_param" in zero) is parameters
    if optimizer:
        assert zero["offload_optimizer"]["device"] == "cpu"
    if parameters:
        assert zero["offload_param"]["device"] == "cpu"
    assert (strategy.initial_scale_power, strategy.loss_scale_window) == (power, window)
    assert strategy.exclude_frozen_parameters


@pytest.fixture(scope="module")
def ranks(tunes, tmp_path_factory):
    """What two real ranks of ZeRO-2 reported: one step of plain SGD with rate 1 on a large gradient."""
    pytest.importorskip("deepspeed")
    out = tmp_path_factory.mktemp("ranks") / "found.json"
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("zero2_ranks.py")), str(tunes), str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_engine_clips_once_and_its_norm_is_logged(ranks):
    """B21: under ZeRO-2 too the update is the clipped gradient and the log has the norm before."""
    assert ranks["world_size"] == 2
    assert ranks["planted"] > 2
    assert ranks["update"] == pytest.approx(1.0, rel=1e-4)
    assert ranks["grad_norm"] == [pytest.approx(ranks["planted"], rel=1e-4)]


@pytest.mark.slow
def test_the_engines_own_config_is_resolved(ranks):
    """B20: as DeepSpeed got it, with the accumulation that the global batch needs."""
    assert [path for path, value in leaves(ranks["config"]) if value == "auto"] == []
    assert ranks["config"]["zero_optimization"]["stage"] == ranks["stage"] == 2
    assert ranks["config"]["gradient_accumulation_steps"] == ranks["accumulation"] == 2
    assert ranks["config"]["train_micro_batch_size_per_gpu"] == 1
    assert ranks["config"]["gradient_clipping"] == ranks["clipping"] == 1.0
