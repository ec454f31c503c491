"""`kill -9` at random moments, restart with the same command, and no bit of the result is another (B28)."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from forked_python import forked_python
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


def adapter(run):
    return load_file(run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")


SOAK = pytest.mark.soak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "kills"), [(1, 5), (2, 5), pytest.param(1, 20, marks=SOAK), pytest.param(2, 20, marks=SOAK)]
)
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, world_size, kills):
    """Dropout is on; every second kill falls into the writing of a checkpoint, the others anywhere."""
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [forked_python(), str(script), str(tmp_path), str(world_size), str(kills), "5"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    logs = "".join(file.read_text()[-1500:] for file in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr[-1500:] + logs
    found = json.loads(done.stdout.splitlines()[-1])  # DeepSpeed writes above it
    assert len(found["kills"]) == kills
    assert found["inside_a_write"] >= kills // 4, found
    assert len(set(found["kills"])) >= min(3, kills // 2), found
    whole = adapter(tmp_path / "whole")
    for name in found["ended"]:
        run = tmp_path / name
        assert os.readlink(run / "checkpoints" / "last") == os.readlink(tmp_path / "whole" / "checkpoints" / "last")
        assert not list((run / "checkpoints").glob(".*"))
        assert all(torch.equal(weight, whole[key]) for key, weight in adapter(run).items())
