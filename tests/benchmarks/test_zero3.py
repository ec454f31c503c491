"""The real engine on two CPU processes: sharded weights, an uneven number of questions, training goes on afterwards."""

import os
import subprocess
from pathlib import Path

import pytest
from forked_python import forked_python


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2])
def test_sharded_weights_score_like_whole_ones(world_size):
    pytest.importorskip("deepspeed")
    launch = [forked_python(), "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world_size}"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launch, str(Path(__file__).with_name("zero3_ranks.py"))],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("agrees") == world_size
