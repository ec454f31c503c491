"""Whatever a user calls a model opens to the same logits, or is refused in one line."""

import copy
import json
import logging
import shutil

import pytest
import torch
from peft import get_peft_model

from musician.data.rendering.canary import canaries
from musician.data.rendering.render import Renderer
from musician.lm.open_model import open_model
from musician.lm.source import find_model
from musician.model.checkpoint import DESCRIPTION, describe, save_weights
from musician.model.merge import merge
from musician.runtime.atomic import point
from musician.runtime.errors import UserError

from .toys import lora, tiny_llama, token_ids, train_a_little

IDS = token_ids((1, 12), 5, 250)


def open_fp32(path, base=None):
    """Exact logits on any machine."""
    return open_model(str(path), base, precision="32-true", device="cpu")


def logits(network):
    with torch.no_grad():
        return network(input_ids=IDS, use_cache=False).logits


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run directory as the command leaves it, with its base, its adapter folder, its merged model and its logits."""
    base = tiny_llama(vocab_size=300)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    network = get_peft_model(base, lora())
    network.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    train_a_little(network).eval()
    renderer = Renderer(tokenizer, "human_assistant")
    nodes = {
        "network": {"_target_": "musician.model.network.load_network", "name_or_path": str(tmp_path / "base")},
        "renderer": {"_target_": "musician.data.rendering.render.Renderer", "template": "human_assistant"},
    }
    facts = {"base_model": str(tmp_path / "base"), "model": nodes, "canaries": canaries(renderer), "step": 4}
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000004"
    checkpoint.mkdir(parents=True)
    save_weights(network, tokenizer, checkpoint)
    describe(checkpoint, facts)
    for link in ("last", "best"):
        point(checkpoint.parent / link, checkpoint)
    wanted = logits(network)
    merge(copy.deepcopy(network), tokenizer, tmp_path / "merged", [IDS[0].tolist()])
    shutil.copy(checkpoint / DESCRIPTION, tmp_path / "merged" / DESCRIPTION)
    return tmp_path, wanted


@pytest.mark.parametrize(
    "path",
    ["run", "run/checkpoints", "run/checkpoints/last", "run/checkpoints/step-000004", "run/checkpoints/last/adapter"],
)
def test_every_name_of_a_run_opens_to_the_same_logits(run, path):
    root, wanted = run
    opened = open_fp32(root / path)
    torch.testing.assert_close(logits(opened.network), wanted, rtol=0, atol=1e-6)
    assert not opened.network.training
    assert opened.renderer.template.name == "human_assistant"
    assert opened.source.adapter is not None


def test_a_merged_model_opens_to_the_same_logits(run):
    root, wanted = run
    opened = open_fp32(root / "merged")
    torch.testing.assert_close(logits(opened.network), wanted, rtol=1e-4, atol=1e-4)
    assert opened.source.adapter is None


def test_a_bare_adapter_finds_its_base_or_takes_another(run):
    """Copied out of its run it knows no more than peft wrote."""
    root, wanted = run
    shutil.copytree(root / "run" / "checkpoints" / "last" / "adapter", root / "bare")
    shutil.copytree(root / "base", root / "moved")
    torch.testing.assert_close(logits(open_fp32(root / "bare").network), wanted, rtol=0, atol=1e-6)
    moved = open_fp32(root / "bare", base=str(root / "moved"))
    assert moved.source.base == str(root / "moved")
    torch.testing.assert_close(logits(moved.network), wanted, rtol=0, atol=1e-6)


def test_the_base_alone_has_other_logits(run):
    root, wanted = run
    assert not torch.allclose(logits(open_fp32(root / "base").network), wanted, atol=1e-2)


def test_a_model_without_an_adapter_is_found_in_its_checkpoint(tmp_path, tokenizer):
    network = tiny_llama(vocab_size=300).eval()
    checkpoint = tmp_path / "checkpoints" / "last"
    checkpoint.mkdir(parents=True)
    save_weights(network, tokenizer, checkpoint)
    describe(checkpoint, {"step": 1})
    torch.testing.assert_close(logits(open_fp32(tmp_path).network), logits(network), rtol=0, atol=0)


@pytest.mark.parametrize("edit", ["template", "add_bos", "canary"])
def test_prompts_that_would_be_rendered_differently_are_refused(run, edit):
    root, _ = run
    file = root / "run" / "checkpoints" / "last" / DESCRIPTION
    content = json.loads(file.read_text())
    if edit == "template":
        content["model"]["renderer"]["template"] = "chatmusician"
    elif edit == "add_bos":
        content["model"]["renderer"]["add_bos"] = True
    else:
        content["canaries"][1][0] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="would not be rendered as in training") as caught:
        open_fp32(root / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["checkpoints/last/adapter", "checkpoints", ""])
def test_what_is_missing_is_one_line(run, part):
    root, _ = run
    shutil.rmtree((root / "run" / part).resolve())
    (root / "run").mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        open_fp32(root / "run")
    assert str(root / "run") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_forgot_its_base_says_how_to_name_it(run):
    root, _ = run
    shutil.copytree(root / "run" / "checkpoints" / "last" / "adapter", root / "bare")
    config = json.loads((root / "bare" / "adapter_config.json").read_text())
    (root / "bare" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(UserError, match=r"model\.base="):
        open_fp32(root / "bare")


def test_a_base_with_fewer_rows_than_the_tokenizer_is_refused(run):
    """B9."""
    root, _ = run
    tiny_llama(vocab_size=258).save_pretrained(root / "small")
    shutil.copy(root / "base" / "tokenizer.json", root / "small")
    shutil.copy(root / "base" / "tokenizer_config.json", root / "small")
    with pytest.raises(UserError, match="do not match"):
        open_fp32(root / "small")


def test_a_name_that_is_no_folder_is_taken_for_one_of_the_hub():
    source = find_model("owner/name")
    assert (source.base, source.tokenizer, source.adapter, source.description) == ("owner/name", "owner/name", None, {})


def test_the_precision_follows_the_machine_unless_it_is_given(run, monkeypatch, caplog):
    root, wanted = run
    monkeypatch.setattr("musician.runtime.hardware.native_bf16", lambda: True)
    with caplog.at_level(logging.INFO):
        fast = open_model(str(root / "run"), device="cpu")
    assert (fast.precision, next(fast.network.parameters()).dtype) == ("bf16-true", torch.bfloat16)
    assert "precision bf16-true on cpu (this processor multiplies bf16 natively)" in caplog.text
    torch.testing.assert_close(logits(fast.network).float(), wanted, rtol=0.1, atol=0.1)
    exact = open_model(str(root / "run"), precision="32-true", device="cpu")
    torch.testing.assert_close(logits(exact.network), wanted, rtol=0, atol=1e-6)
    monkeypatch.setattr("musician.runtime.hardware.native_bf16", lambda: False)
    assert open_model(str(root / "run"), device="cpu").precision == "32-true"


def test_mixed_precision_keeps_weights_whole_and_computes_in_half(run):
    root, _ = run
    mixed = open_model(str(root / "run"), precision="bf16-mixed", device="cpu")
    assert next(mixed.network.parameters()).dtype == torch.float32
    with mixed.autocast():
        assert logits(mixed.network).dtype == torch.bfloat16
    assert logits(mixed.network).dtype == torch.float32


def test_an_unknown_precision_is_refused_with_the_nearest(run):
    root, _ = run
    with pytest.raises(UserError, match="did you mean 'bf16-true'"):
        open_model(str(root / "run"), precision="bf16")
