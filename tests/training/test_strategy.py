"""What DeepSpeed is told, and that it does it (B20, B21)."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from forked_python import forked_python
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.runtime.errors import UserError
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
    parameters = parameters and stage == 3
    strategy = ZeroStrategy(stage, 4, optimizer, parameters, 10, power, window)
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
    assert zero["stage3_param_persistence_threshold"] == 10
    assert strategy.config["zero_force_ds_cpu_optimizer"] is False
    assert strategy.exclude_frozen_parameters


@pytest.mark.parametrize(
    ("options", "why"),
    [({"stage": 0}, "stages 1, 2 and 3"), ({"stage": 2, "offload_parameters": True}, "shards no weights; set stage=3")],
)
def test_what_zero_cannot_do_is_refused(options, why):
    with pytest.raises(UserError, match=why):
        ZeroStrategy(**options)


@pytest.fixture(scope="module")
def ranks(tunes, tmp_path_factory):
    """What two real ranks of ZeRO-2 reported: one step of plain SGD with rate 1 on a large gradient."""
    pytest.importorskip("deepspeed")
    return found_by("zero2_ranks.py", tunes, tmp_path_factory.mktemp("ranks") / "found.json")


def found_by(script, tunes, out, *arguments):
    """What a script beside this file wrote, run in processes of its own: DeepSpeed's state is global."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [forked_python(), str(Path(__file__).with_name(script)), str(tunes), str(out), *map(str, arguments)],
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


@pytest.mark.slow
def test_steps_that_fp16_skips_do_not_count_in_the_schedule(tunes, tmp_path):
    """The real engine in fp16, whose first scale overflows: Lightning steps the schedule, DeepSpeed skips."""
    found = found_by("fp16_rank.py", tunes, tmp_path / "found.json", 2, 24, 1)
    assert (found["dtype"], found["config"]["loss_scale"], found["error"]) == ("torch.float16", 0, None)
    moved = found["moved"]
    skipped = moved.index(True)
    assert 2 < skipped < 10
    assert moved == [False] * skipped + [True] * (12 - skipped)
    assert found["skipped"] == [min(step + 1, skipped) for step in range(12)]
    rates = [1e-2 * rate for rate in (1 / 3, 2 / 3, 1.0, 1.0)]  # a warm-up of 3 in 12
    assert found["rates"] == pytest.approx([rates[max(0, step - skipped)] for step in range(12)], rel=1e-6)
    assert found["scale"] == 2 ** (24 - skipped + 1)  # the first overflow is forgiven (hysteresis 2)


@pytest.mark.slow
def test_an_overflow_at_the_smallest_scale_ends_in_one_line(tunes, tmp_path):
    found = found_by("fp16_rank.py", tunes, tmp_path / "found.json", 2, 30, 2**30)
    assert found["error"].startswith("fp16: the gradients overflow at the smallest loss scale, 1.07374e+09")
    assert "\n" not in found["error"]
    assert not any(found["moved"])
