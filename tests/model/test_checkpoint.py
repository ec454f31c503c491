"""A checkpoint directory is found by any of its names."""

import json
import os

import pytest
import torch

from musician.model.checkpoint import (
    describe,
    newest_run,
    read_description,
    resolve_checkpoint,
    save_weights,
)
from musician.runtime.atomic import point
from musician.runtime.errors import UserError

from .toys import tiny_llama, token_ids


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
