"""Two nodes, as two network namespaces with a cable between them; the cable is pulled and one node dies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .toys import column

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """The folder of both runs, and how the processes ended."""
    isolate = ["unshare", "--map-root-user", "--net"]
    if not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    trial = subprocess.run([*isolate, "ip", "link", "add", "type", "veth"], capture_output=True, text=True, check=False)
    if trial.returncode:
        pytest.skip(f"no network namespaces here: {trial.stderr.strip()}")
    folder = tmp_path_factory.mktemp("hosts")
    done = subprocess.run(
        [*isolate, sys.executable, str(Path(__file__).with_name("two_hosts.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    logs = "".join(file.read_text()[-1500:] for file in folder.glob("*.log"))
    assert done.returncode == 0, done.stderr[-1500:] + logs
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_the_host_that_is_left_ends_in_one_line(hosts):
    """It hears nothing of the other's end, in step 6, and would wait for half an hour by default."""
    folder, ended = hosts
    assert ended["killed"] == [1, -9]
    assert ended["last"] == "step-000005"
    errors = [line for line in (folder / "cut-0.log").read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for words in ("does not answer any more (Timed out", "step-000005 is whole", "ckpt_path=auto"):
        assert words in errors[0]
    assert "Traceback" not in (folder / "cut-0.log").read_text()


def test_the_run_goes_on_and_ends_with_the_bits_of_one_that_nothing_happened_to(hosts):
    """Dropout is on, and each host has its own random state."""
    folder, ended = hosts
    assert ended["whole"] == ended["resumed"] == [0, 0]
    assert column(folder / "cut", "train/loss") == column(folder / "whole", "train/loss")
    assert len(column(folder / "cut", "train/loss")) == 8
    ends = [
        load_file(folder / run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")
        for run in ("whole", "cut")
    ]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())
