"""A step of a run taken again: the numbers of the log, whatever checkpoint is left, and a run that nobody touched."""

import csv
import json
import math
import shutil

import pytest
from commands import assert_ran, assert_refused, call, spawn

from musician.training.runs.replay import block_and_kind, find_start, verdict

#: Nine rows in global batches of four, so that the last one of an epoch is smaller; dropout is the recipe's 0.1.
SMALL = (
    *("+experiment=smoke", "benchmark=[]", "logger=[csv]", "global_batch_size=4", "data.limit_train_rows=9"),
    *("data.packing=false", "trainer.max_epochs=2", "optimizer.lr=0.01", "trainer.gradient_clip_val=0.1"),
    *("callbacks.checkpoints.every_n_steps=2", "callbacks.checkpoints.keep=10"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of six steps, checkpoints after 2, 3, 4 and 6."""
    folder = tmp_path_factory.mktemp("replay")
    assert_ran(call("train", *SMALL, "hydra.run.dir=run", cwd=folder))
    return folder


def replay(folder, step, *more, run="run"):
    """Run the command; what it wrote, and what it said."""
    outcome = call("replay", run, step, f"output_dir=out/{run}-{step}", *more, cwd=folder)
    assert_ran(outcome)
    return json.loads((folder / "out" / f"{run}-{step}" / f"replay-step-{step:06d}.json").read_text()), outcome.stdout


def metrics(folder, run="run"):
    """The log's lines of the steps, in order."""
    with (folder / run / "csv" / "metrics.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["train/loss"]]


def content(run):
    """Every file of a directory with its bytes and times."""
    return {
        path.relative_to(run): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in sorted(run.rglob("*"))
    }


@pytest.mark.slow
@pytest.mark.parametrize(("step", "start"), [(1, None), (3, 2), (4, 3), (5, 4), (6, 4)])
def test_a_step_taken_again_has_the_numbers_of_the_log(folder, step, start):
    before = content(folder / "run")
    found, said = replay(folder, step)
    assert content(folder / "run") == before
    line = metrics(folder)[step - 1]
    assert found["loss"] == pytest.approx(float(line["train/loss"]), rel=1e-6)
    assert found["gradient_norm"] == pytest.approx(float(line["train/grad_norm"]), rel=1e-6)
    assert found["learning_rates"] == [pytest.approx(float(line["train/lr"]), rel=1e-6)]
    assert said.count("equal to the log") == 3
    assert found["start"] == (start and f"run/checkpoints/step-{start:06d}")


@pytest.mark.slow
def test_the_numbers_of_a_step_fit_together(folder):
    found, said = replay(folder, 5)
    rows = [row for micro in found["micro_batches"] for row in micro["rows"]]
    seen = [float(line["train/tokens_seen"]) for line in metrics(folder)]
    assert len(rows) == 4
    assert sum(row["tokens"] for row in rows) == seen[4] - seen[3]
    texts = [row["text"].replace("</s>", ".").encode() for row in rows]
    assert [len(text) for text in texts] == [row["tokens"] for row in rows], "the tokenizer's ids are bytes"
    weighted = [(micro["loss"], sum(row["supervised"] for row in micro["rows"])) for micro in found["micro_batches"]]
    mean = sum(loss * count for loss, count in weighted) / sum(count for _, count in weighted)
    assert mean == pytest.approx(found["loss"], rel=1e-6)
    norms = [layer["gradient_norm"] for layer in found["layers"]]
    assert math.hypot(*norms) == pytest.approx(found["gradient_norm"], rel=1e-5)
    assert found["gradient_norm"] > 0.1, "or clipping is not tested"
    assert [layer["block"] for layer in found["layers"]] == ["layers.0"] * 4 + ["layers.1"] * 4
    for word in ("layers.1", "self_attn lora_B", rows[0]["text"][:20].splitlines()[0]):
        assert word in said


@pytest.mark.slow
def test_an_epoch_sees_each_document_once(folder):
    seen = [
        document
        for step in (4, 5, 6)
        for micro in replay(folder, step)[0]["micro_batches"]
        for row in micro["rows"]
        for document in row["documents"]
    ]
    assert len(seen) == len(set(seen)) == 9


@pytest.mark.slow
def test_a_run_without_checkpoints_is_replayed_from_its_start(folder):
    shutil.copytree(folder / "run", folder / "bare", symlinks=True)
    shutil.rmtree(folder / "bare" / "checkpoints")
    found, said = replay(folder, 5, run="bare")
    assert found["start"] is None
    assert "trains from the start of the run" in said
    assert found["loss"] == pytest.approx(float(metrics(folder)[4]["train/loss"]), rel=1e-6)


@pytest.mark.slow
def test_a_log_that_says_something_else_is_said(folder):
    shutil.copytree(folder / "run", folder / "forged", symlinks=True)
    log = folder / "forged" / "csv" / "metrics.csv"
    loss = metrics(folder)[2]["train/loss"]
    log.write_text(log.read_text().replace(loss, str(float(loss) + 0.25)))
    found, said = replay(folder, 3, run="forged")
    assert "by -0.25" in said
    assert "differs" in found["log"]["train/loss"]["verdict"]


@pytest.mark.slow
def test_a_step_that_cannot_be_finished_still_shows_its_rows(folder):
    import torch

    shutil.copytree(folder / "run", folder / "bad", symlinks=True)
    file = folder / "bad" / "checkpoints" / "step-000004" / "state.ckpt"
    state = torch.load(file, weights_only=False)
    next(iter(state["state_dict"].values())).fill_(float("nan"))
    torch.save(state, file)
    found, said = replay(folder, 5, run="bad")
    assert "loss is nan at step 4" in found["stopped"]
    assert found["loss"] is None
    assert len(found["micro_batches"][0]["rows"]) == 1
    assert "the step was not finished" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "7"], ["step=7", "beyond the end", "6 steps"]),
        (["run", "0"], ["step=0", "count from 1"]),
        (["run", "last"], ["step=last"]),
        (["run"], ["give a run and a step"]),
        (["nowhere", "1"], ["nowhere", "not a run directory"]),
        (["run", "3", "output_dir=run/replays"], ["inside the run"]),
        (["run", "3", "+stp=3"], ["stp", "step"]),
    ],
)
def test_what_cannot_be_replayed_is_refused(folder, arguments, words):
    before = content(folder / "run")
    assert_refused(call("replay", *arguments, cwd=folder), *words)
    assert content(folder / "run") == before


@pytest.mark.slow
def test_a_step_beyond_the_plan_of_an_unfinished_run_is_refused(folder):
    shutil.copytree(folder / "run", folder / "killed", symlinks=True)
    (folder / "killed" / "summary.json").unlink()
    outcome = call("replay", "killed", "9", cwd=folder)
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1] == "error: replay: step=9 is beyond the end; the run has 6 steps"


def test_weights_are_grouped_by_block_and_kind():
    wrapped = "base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight"
    assert block_and_kind(wrapped) == ("layers.3", "self_attn lora_A")
    assert block_and_kind("model.layers.11.input_layernorm.weight") == ("layers.11", "input_layernorm")
    assert block_and_kind("model.layers.0.mlp.up_proj.weight") == ("layers.0", "mlp")
    assert block_and_kind("base_model.model.lm_head.modules_to_save.default.weight") == ("lm_head", "")
    assert block_and_kind("base_model.model.model.embed_tokens.lora_embedding_A.default") == (
        "embed_tokens",
        "lora_embedding_A",
    )


def test_a_number_is_equal_within_single_precision_only():
    assert verdict(5.0, 5.0 * (1 + 5e-7)) == "equal to the log"
    assert verdict(5.0, 5.0 * (1 + 2e-6)).startswith("differs from the logged")
    assert verdict(5.0, None) == "not in the run's log"
    assert verdict(None, 5.0) == "logged: 5"
    assert verdict(float("nan"), float("nan")) == "equal to the log"


def test_the_start_is_the_newest_whole_checkpoint_before_the_step(tmp_path):
    def checkpoint(name):
        place = tmp_path / name
        place.mkdir(parents=True)
        (place / "checkpoint.json").write_text(f'{{"step": {int(name[-6:])}}}')
        (place / "state.ckpt").touch()
        return place

    six, older = checkpoint("run/checkpoints/step-000006"), checkpoint("before/checkpoints/step-000004")
    eight = checkpoint("run/checkpoints/step-000008")
    (tmp_path / "run" / "checkpoints" / ".step-000007.partial").mkdir()
    run = tmp_path / "run"
    assert find_start(run, 7, None) == find_start(run, 8, None) == six
    assert find_start(run, 6, str(older)) == older
    assert find_start(run, 9, None) == eight
    assert find_start(run, 6, None) is None


@pytest.fixture(scope="module")
def two_ranks(folder):
    """The same run by two processes under ZeRO-2: each draws dropout of its own."""
    assert_ran(spawn("train", *SMALL, "hydra.run.dir=two", "hardware=cpu_2proc", cwd=folder))
    losses = [[float(line["train/loss"]) for line in metrics(folder, run)] for run in ("run", "two")]
    assert losses[0] != pytest.approx(losses[1], rel=2e-5), "or dropout is not tested"
    shutil.copytree(folder / "two", folder / "two_bare", symlinks=True)
    shutil.rmtree(folder / "two_bare" / "checkpoints")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("run", "step", "start"), [("two", 5, 4), ("two", 6, 4), ("two", 4, 3), ("two_bare", 5, None)])
def test_a_step_of_several_processes_is_taken_again_by_one(two_ranks, run, step, start):
    """From inside an epoch, its end, the start of the run: the whole global batch, with each rank's dropout."""
    found, said = replay(two_ranks, step, run=run)
    assert found["start"] == (start and f"{run}/checkpoints/step-{start:06d}")
    line = metrics(two_ranks, run)[step - 1]
    assert found["loss"] == pytest.approx(float(line["train/loss"]), rel=1e-5)
    assert found["gradient_norm"] == pytest.approx(float(line["train/grad_norm"]), rel=1e-5)
    assert sum(len(micro["rows"]) for micro in found["micro_batches"]) == (1 if step == 6 else 4)
    assert "2 processes: this one takes their micro-batches and random states in turn" in said
