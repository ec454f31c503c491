"""A checkpoint directory is whole or absent, and found by any of its names."""

import json
import os

import pytest
import torch

from musician.errors import UserError
from musician.model import checkpoint as module
from musician.model.checkpoint import (
    describe,
    newest_run,
    point,
    publish,
    read_description,
    resolve_checkpoint,
    save_weights,
    write_atomically,
)

from .toys import tiny_llama, token_ids


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def make(directory, text="whole"):
    write_atomically(directory, lambda folder: (folder / "file").write_text(text))
    return directory


def test_a_crash_while_filling_leaves_no_final_name(tmp_path):
    def crash(folder):
        (folder / "file").write_text("half")
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        write_atomically(tmp_path / "target", crash)
    assert names(tmp_path) == []
    make(tmp_path / "target")
    with pytest.raises(RuntimeError, match="crash"):
        write_atomically(tmp_path / "target", crash)
    assert (tmp_path / "target" / "file").read_text() == "whole"


def test_a_later_attempt_does_not_inherit_leftovers(tmp_path):
    leftover = tmp_path / ".target.partial"
    leftover.mkdir()
    (leftover / "old").write_text("from a process that was killed")
    make(tmp_path / "target")
    assert names(tmp_path / "target") == ["file"]
    assert not leftover.exists()


def test_every_file_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    flush = module._flush
    monkeypatch.setattr(
        module, "_flush", lambda path: (order.append((path.name, (tmp_path / "t").exists())), flush(path))
    )

    def fill(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("a")
        (folder / "b").write_text("b")

    write_atomically(tmp_path / "t", fill)
    assert {("a", False), ("b", False)} <= set(order)
    assert order[-1] == (tmp_path.name, True), "the folder's entry is flushed after the rename"


def test_replacing_a_checkpoint_never_leaves_it_absent(tmp_path, monkeypatch):
    """B28: killed at any moment, here just before the rename."""
    target, partial = make(tmp_path / "target"), tmp_path / ".target.partial"
    partial.mkdir()
    (partial / "file").write_text("newer")
    absent = []
    rename = type(partial).rename

    def watched(self, to):
        absent.append(not target.exists() and not list(tmp_path.glob(".target.old*")))
        return rename(self, to)

    monkeypatch.setattr(type(partial), "rename", watched)
    publish(partial, target)
    assert (target / "file").read_text() == "newer"
    assert not any(absent)


def test_a_link_moves_in_one_step_and_survives_a_move_of_the_folder(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    one, two = make(folder / "step-1"), make(folder / "step-2")
    for target in (one, two, two):
        point(folder / "last", target)
        assert (folder / "last").resolve() == target
    assert os.readlink(folder / "last") == "step-2"
    folder.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "last" / "file").read_text() == "whole"


def run_directory(root, steps=(4, 8), best=4):
    checkpoints = root / "checkpoints"
    for step in steps:
        folder = checkpoints / f"step-{step:06d}"
        folder.mkdir(parents=True)
        describe(folder, {"step": step})
    point(checkpoints / "last", checkpoints / f"step-{steps[-1]:06d}")
    point(checkpoints / "best", checkpoints / f"step-{best:06d}")
    return root


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("", 4),
        ("checkpoints", 4),
        ("checkpoints/last", 8),
        ("checkpoints/best", 4),
        ("checkpoints/step-000008", 8),
    ],
)
def test_a_checkpoint_is_found_by_any_of_its_names(tmp_path, path, step):
    run = run_directory(tmp_path / "run")
    assert read_description(resolve_checkpoint(run / path)) == {"step": step}


def test_where_none_is_best_the_last_is_taken(tmp_path):
    run = run_directory(tmp_path / "run")
    (run / "checkpoints" / "best").unlink()
    assert read_description(resolve_checkpoint(run))["step"] == 8


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no checkpoint here") as caught:
        resolve_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_newest_run_is_the_one_whose_last_link_is_newest(tmp_path):
    runs = [run_directory(tmp_path / name) for name in ("b", "a/deep", "c")]
    for age, run in zip((30, 10, 20), runs, strict=True):
        os.utime(run / "checkpoints" / "last", (1e9 - age, 1e9 - age), follow_symlinks=False)
    assert newest_run(tmp_path) == runs[1]
    with pytest.raises(UserError, match="train first"):
        newest_run(tmp_path / "nowhere")


def test_a_model_without_an_adapter_is_saved_whole_with_its_tokenizer(tmp_path, tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = tiny_llama(vocab_size=300).eval()
    save_weights(network, tokenizer, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = token_ids((1, 6))
    torch.testing.assert_close(again(ids).logits, network(ids).logits, rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("X:1")["input_ids"] == tokenizer("X:1")["input_ids"]


def test_a_description_comes_back(tmp_path):
    describe(tmp_path, {"step": 3, "metrics": {"val/loss": 1.5}})
    assert read_description(tmp_path) == {"step": 3, "metrics": {"val/loss": 1.5}}
    assert json.loads((tmp_path / "checkpoint.json").read_text())["step"] == 3
    assert read_description(tmp_path / "absent") == {}
