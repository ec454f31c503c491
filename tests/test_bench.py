"""The benches that no other test runs still start, and their arms agree."""

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"


def test_the_bench_for_gpus_runs_its_arms_on_a_cpu():
    command = [sys.executable, BENCH / "train_gpu.py", "--device", "cpu", "--shape", "tiny", "--rows", "1"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads of tests that run side by side wait for one another
    done = subprocess.run(
        [*command, "--steps", "1", "--warm", "1"], capture_output=True, text=True, timeout=300, env=alone
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for arm in ("musician", "packed", "padded", "original"):
        assert f"| {arm} |" in done.stdout
