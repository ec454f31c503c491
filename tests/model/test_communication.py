"""The planned traffic of a step against what real processes send, and times that can be worked out by hand."""

import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from training.toys import data, write_tunes
from training.traffic_ranks import ACCUMULATION, KINDS, PERSISTENT, network

from musician.model.communication import REUSE_DISTANCE, ClusterStep, Traffic, step_traffic

ROOT = Path(__file__).parents[2]
CASES = [(ranks, kind) for ranks, kinds in KINDS.items() for kind in kinds]

#: Ethernet, IPv4 and TCP with time stamps: what a packet on the loopback interface has beside its payload.
HEADERS = 14 + 20 + 32


@cache
def own_namespace():
    """Whether this user may have a network namespace, where nothing else passes the loopback interface."""
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Steps of so many real ranks; each number of ranks runs once."""
    tunes = write_tunes(tmp_path_factory.mktemp("tunes"))
    data(tunes).setup()  # prepared once, not by each rank

    @cache
    def run(ranks):
        out = tunes / f"{ranks}.json"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        script = [
            sys.executable,
            str(ROOT / "tests" / "training" / "traffic_ranks.py"),
            str(ranks),
            str(tunes),
            str(out),
        ]
        isolated = ["unshare", "-rn", *script, "--namespace"] if own_namespace() else script
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        done = subprocess.run(isolated, env=environment, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(out.read_text())

    return run


def planned(ranks, kind):
    """Traffic in fp32."""
    return step_traffic(
        *(network("checkpointing" in kind), int(kind[0]), ranks, 4),
        accumulation=ACCUMULATION,
        checkpointing="checkpointing" in kind,
        persistence_threshold=PERSISTENT,
        reuse_distance=0 if "far" in kind else REUSE_DISTANCE,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "kind"), [case for case in CASES if case[1] != "0"])
def test_every_collective_is_planned(counted, ranks, kind):
    """Bytes of each operation in the last step, by which stage 3 has learnt the order of the modules."""
    found = Counter()
    for operation, size in counted(ranks)[kind][-1]["said"]:
        found[operation] += size
    plan = planned(ranks, kind)
    scalars = 200
    assert found["all_reduce"] == pytest.approx(plan.all_reduce, rel=0.02, abs=scalars)
    assert found["reduce_scatter"] == pytest.approx(plan.reduce_scatter, rel=0.02)
    assert found["all_gather"] == pytest.approx(plan.all_gather, rel=0.02)
    assert sum(size for operation, size in found.items() if not hasattr(plan, operation)) < scalars


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "kind"), CASES)
def test_what_a_rank_sends_passes_the_wire(counted, ranks, kind):
    """Bytes on the loopback interface, without the headers of packets; gloo reduces and scatters by an all-reduce."""
    if not own_namespace():
        pytest.skip("no network namespace of its own (unshare -rn): other traffic would be counted")
    steps = counted(ranks)[kind]
    sent = min(step["bytes"] - HEADERS * step["packets"] for step in steps[1:]) / ranks
    plan = planned(ranks, kind)
    of_gloo = plan.reduce_scatter * (ranks - 1) / ranks
    assert sent == pytest.approx(plan.sent(ranks) + of_gloo, rel=0.02)


def test_a_ring_inside_nodes_and_one_over_them_take_what_arithmetic_says():
    """0.32 GB of gradients on nodes of 8 V100: 5.6 ms over NVLink at 100 GB/s, 44.8 ms at 12.5 GB/s over 8 nodes."""
    reduced = Traffic(all_reduce=320_000_000)
    assert reduced.seconds(1, 8, 100e9, 12.5e9) == pytest.approx(0.0056)
    assert reduced.seconds(8, 8, 100e9, 12.5e9) == pytest.approx(0.0056 + 0.0448)
    assert reduced.seconds(1, 1, 100e9, 12.5e9) == reduced.sent(1) == 0
    assert Traffic(reduce_scatter=6, all_gather=2).sent(2) == Traffic(all_reduce=4).sent(2) == 4


def test_efficiency_is_lowest_where_the_cards_are_fastest():
    step = ClusterStep(2, 8, 8, 0.0, 1.0, (3.0, 1.0), 1000)
    assert step.efficiency == (0.75, 0.5)
    assert step.tokens_per_second == (250.0, 500.0)
