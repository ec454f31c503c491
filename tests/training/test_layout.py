"""A state goes on in another number of processes and at another ZeRO stage as if nothing had happened."""

import csv
import json

import pytest
from safetensors.torch import load_file

from .test_strategy import found_by
from .toys import run_jobs

JOB = (
    *("+experiment=smoke", "logger=[csv]", "benchmark=[]", "data.limit_train_rows=22", "global_batch_size=6"),
    *("lora.lora_dropout=0", "trainer.max_epochs=2", "trainer.gradient_clip_val=0.5", "optimizer.lr_ratio=4"),
    *("lora.r=2", "lora.modules_to_save=[embed_tokens]"),
    *("callbacks.checkpoints.every_n_steps=3", "callbacks.checkpoints.keep=9"),
)
ZERO = {f"zero{stage}": ("hardware=cpu_2proc", f"hardware.strategy.stage={stage}") for stage in (1, 2, 3)}
#: Weights do not divide among three, so the parts of a weight are padded.
LAYOUTS = {"alone": (), **ZERO, "zero3 of 3": (*ZERO["zero3"], "hardware.devices=3")}
#: From, at a step, to. Steps 1 to 4 are the first epoch.
MOVES = [
    ("zero2", 3, "alone"),
    ("alone", 3, "zero2"),
    ("zero2", 3, "zero1"),
    ("zero2", 4, "zero3 of 3"),
    ("zero3 of 3", 6, "alone"),
]


def ranks(layout):
    return {"alone": 1, "zero3 of 3": 3}.get(layout, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every move, after the runs that it begins with."""
    folder = tmp_path_factory.mktemp("moved")
    jobs = [(name, ranks(name), [*JOB, *LAYOUTS[name]]) for name in ("alone", "zero2")]
    for before, step, after in MOVES:
        origin = "zero2 4 zero3 of 3" if before == "zero3 of 3" else before
        state = f"ckpt_path='{folder / origin / 'checkpoints' / f'step-{step:06d}'}'"
        jobs.append((f"{before} {step} {after}", ranks(after), [*JOB, *LAYOUTS[after], state]))
    run_jobs(folder, jobs)
    return folder


def figures(run):
    """What the log says of each step."""
    found = {}
    with (run / "csv" / "metrics.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            for key in ("train/loss", "train/grad_norm", "train/lr", "train/tokens_seen", "val/loss"):
                if row.get(key):
                    found[int(row["step"]), key] = float(row[key])
    return found


def rows_of_steps(folder, name, count):
    """The rows of each step in their order, put together from what the ranks saw; without the filling."""
    seen = [
        [json.loads(line) for line in (folder / f"{name}-{rank}.rows").read_text().splitlines()]
        for rank in range(count)
    ]
    steps = {}
    for turn in zip(*seen, strict=True):
        for step, rows in turn:
            steps.setdefault(step, []).extend(row for row in rows if len(row) > 1)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize(("before", "step", "after"), MOVES)
def test_the_run_goes_on_with_the_same_rows_figures_and_weights(runs, before, step, after):
    """In the middle of an epoch and at its end; with the optimiser's moments, else the next loss but one differs."""
    name = f"{before} {step} {after}"
    whole, moved = figures(runs / "alone"), figures(runs / name)
    wanted = {place: value for place, value in whole.items() if place[0] >= step}
    assert moved.keys() == wanted.keys()
    for place, value in wanted.items():
        assert moved[place] == pytest.approx(value, rel=1e-5), place
    rows = rows_of_steps(runs, "alone", 1)
    assert sum(map(len, rows.values())) == 44
    assert rows_of_steps(runs, name, ranks(after)) == {s: ids for s, ids in rows.items() if s >= step}
    ends = [
        load_file(runs / run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")
        for run in ("alone", name)
    ]
    assert ends[0].keys() == ends[1].keys()
    for key, weight in ends[0].items():
        assert (weight - ends[1][key]).norm() <= 1e-5 * weight.norm(), key


@pytest.mark.slow
def test_another_number_of_ranks_is_reported_in_one_line(runs):
    def reported(name):
        return [line for line in (runs / f"{name}-0.log").read_text().splitlines() if "the state was written" in line]

    assert reported("zero2 3 alone") == [
        "the state was written by 2 ranks, this job has 1: weights, optimizer, schedule and order of the data are "
        "kept; dropout draws differ"
    ]
    assert reported("zero2 3 zero1") == reported("zero2") == []


@pytest.mark.slow
def test_a_loss_scale_is_carried_over(tunes, tmp_path):
    """fp16 on the CPU, by the real engine: scale, window and skipped steps go on in one process and at stage 3."""
    found = found_by("fp16_moved_ranks.py", tunes, tmp_path / "found.json")
    whole = found["whole"][0][0]
    assert whole["dtype"] == "torch.float16"
    scales = whole["scales"]
    assert (scales[0], scales[2], scales[7], scales[11]) == (64, 32, 64, 128), (
        "twice too large, then grown every fourth"
    )
    assert whole["skipped_steps"] == [0, 1, *[2] * 10]
    for name in ("one", "stage 3"):
        ranks, codes = found[name]
        assert codes == [0] * len(ranks)
        for key in ("scales", "skipped_steps"):
            assert ranks[0][key] == whole[key][7:], (name, key)
        assert ranks[0]["lr"] == pytest.approx(whole["lr"][7:], rel=1e-6)
        assert ranks[0]["loss"] == pytest.approx(whole["loss"][7:], rel=2e-3), "half precision"
