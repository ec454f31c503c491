"""Rounded weights: small, close to the whole ones, and refused in one line where they cannot be had."""

import sys

import pytest
import torch
from commands import assert_ran, call

from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.generation.stream import tokens
from musician.lm.language_model import LanguageModel
from musician.model.network import random_llama
from musician.model.quantization import KINDS, quantize
from musician.runtime.errors import UserError


def size(network):
    layers = network.model.layers
    return sum(weight.numel() * weight.element_size() for weight in layers.parameters())


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.3), ("nf4", 0.17)])
def test_rounded_weights_are_small_and_write_much_the_same(kind, share):
    pytest.importorskip("bitsandbytes")
    whole, rounded = random_llama(259).eval(), quantize(random_llama(259).eval(), kind)
    assert size(rounded) < share * size(whole)
    ids = torch.arange(40, 100)[None]
    with torch.no_grad():
        before, after = whole(ids).logits, rounded(ids).logits
    assert not torch.equal(before, after)
    assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 0.98
    sampling = Sampling(temperature=0, max_new_tokens=12)
    assert len(list(tokens(prepare(LanguageModel(rounded, None)), [70, 71, 72], sampling, -1))) == 12


def test_the_command_writes_with_rounded_weights(tmp_path, byte_tokenizer):
    pytest.importorskip("bitsandbytes")
    random_llama(259).save_pretrained(tmp_path / "model")
    byte_tokenizer.save_pretrained(tmp_path / "model")
    asked = ["model=model", "model.quantization=nf4", "prompt=A", "constrain=abc", "tune.bars=1"]
    done = call("generate", *asked, "generation.max_new_tokens=200", cwd=tmp_path)
    assert_ran(done)
    assert "X:" in done.stdout


def test_what_cannot_be_had_is_refused_in_one_line(monkeypatch):
    with pytest.raises(UserError, match="int8 or nf4"):
        quantize(random_llama(259), "int4")
    with pytest.raises(UserError, match="not on mps"):
        quantize(random_llama(259), "int8", "mps")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for kind in KINDS:
        with pytest.raises(UserError, match=r"musician\[quantized\]"):
            quantize(random_llama(259), kind)
