"""Merging gives base and adapter again, in one plain model, or nothing at all (B9, B36)."""

import copy
import json
import shutil

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from musician.model import merge as module
from musician.model.merge import attach_adapter, default_tolerance, merge
from musician.runtime.errors import UserError

from .toys import lora, tiny_llama, token_ids, train_a_little

SAVED = ["embed_tokens", "lm_head"]
PROBES = [token_ids((9,), seed, 250).tolist() for seed in range(3)]
KINDS = [
    pytest.param({}, {}, id="plain"),
    pytest.param({}, {"modules_to_save": SAVED}, id="saved"),
    pytest.param({"tie_word_embeddings": True}, {}, id="tied"),
    pytest.param(
        {"tie_word_embeddings": True}, {"modules_to_save": SAVED, "ensure_weight_tying": True}, id="tied and saved"
    ),
    pytest.param({}, {"targets": ["q_proj", "lm_head"]}, id="head adapted"),
    pytest.param({}, {"use_rslora": True}, id="rslora"),
    pytest.param({}, {"use_dora": True}, id="dora"),
]


def adapted(sizes=None, changes=None):
    network = get_peft_model(tiny_llama(vocab_size=300, **(sizes or {})), lora(**(changes or {})))
    return train_a_little(network).eval()


def logits(network, ids):
    with torch.no_grad():
        return network(input_ids=torch.tensor([ids]), use_cache=False).logits


@pytest.mark.parametrize(("sizes", "changes"), KINDS)
def test_plain_transformers_gives_the_logits_of_base_and_adapter(tmp_path, tokenizer, sizes, changes):
    """B36: on texts that were no probes."""
    network = adapted(sizes, changes)
    other = token_ids((20,), 77, 250).tolist()
    wanted = logits(network, other)
    certificate = merge(network, tokenizer, tmp_path / "merged", PROBES)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(found, other), wanted, rtol=1e-4, atol=1e-4)
    assert certificate.max_logit_difference <= certificate.tolerance
    assert not torch.allclose(wanted, logits(tiny_llama(vocab_size=300, **sizes).eval(), other), atol=1e-2)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("a|b")["input_ids"] == tokenizer("a|b")["input_ids"]


@pytest.mark.parametrize("tied", [False, True])
def test_the_weights_are_those_of_pefts_own_merge(tmp_path, tokenizer, tied):
    network = adapted({"tie_word_embeddings": tied})
    twin = copy.deepcopy(network)
    merge(network, tokenizer, tmp_path / "merged", PROBES)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    wanted = twin.merge_and_unload().state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight), name


def test_the_certificate_says_what_was_compared(tmp_path, tokenizer):
    made = merge(adapted(), tokenizer, tmp_path / "m", PROBES, base_model="base", adapter="where")
    written = json.loads((tmp_path / "m" / "certificate.json").read_text())
    assert written["max_logit_difference"] == made.max_logit_difference
    assert (written["probes"], written["positions"]) == (3, 27)
    assert (written["base_model"], written["adapter"], written["dtype"]) == ("base", "where", "float32")
    assert written["vocabulary"] == [300, len(tokenizer)]
    assert written["torch"] == torch.__version__
    assert 0 <= written["max_logit_difference"] <= written["tolerance"]
    assert written["same_argmax"] == 1.0


def test_the_certificate_measures_the_files_not_the_memory(tmp_path, tokenizer):
    network = adapted()
    wanted = [logits(network, ids) for ids in PROBES]
    made = merge(network, tokenizer, tmp_path / "m", PROBES, dtype="bfloat16")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.bfloat16).eval()
    gap = max((logits(found, ids).float() - x).abs().max() for ids, x in zip(PROBES, wanted, strict=True))
    assert made.max_logit_difference == pytest.approx(float(gap), rel=1e-6)
    assert made.max_logit == pytest.approx(max(float(x.abs().max()) for x in wanted))
    assert gap > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_written_and_certified(tmp_path, tokenizer, dtype):
    merge(adapted(), tokenizer, tmp_path / "m", PROBES, dtype=dtype)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize("rows", [259, 300])
def test_vocabulary_rows_never_shrink(tmp_path, tokenizer, rows):
    """B9, B10: spare rows stay."""
    assert len(tokenizer) == 259
    network = get_peft_model(tiny_llama(vocab_size=rows), lora())
    merge(network, tokenizer, tmp_path / "m", PROBES)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert found.get_input_embeddings().weight.shape[0] == found.get_output_embeddings().weight.shape[0] == rows


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, tokenizer):
    """B9."""
    with pytest.raises(UserError, match="do not match"):
        merge(get_peft_model(tiny_llama(vocab_size=258), lora()), tokenizer, tmp_path / "m", PROBES)
    assert not list(tmp_path.iterdir())


def test_above_the_tolerance_nothing_is_written(tmp_path, tokenizer):
    """B36: bf16 cannot reach a tolerance of zero."""
    with pytest.raises(UserError, match="nothing was written") as caught:
        merge(adapted(), tokenizer, tmp_path / "m", PROBES, dtype="bfloat16", tolerance=0.0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_a_refused_merge_leaves_nothing_behind(tmp_path, tokenizer):
    with pytest.raises(UserError, match="nothing was written"):
        merge(adapted(), tokenizer, tmp_path / "m", PROBES, dtype="bfloat16", tolerance=0.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [3.0, float("nan")])
def test_a_corrupted_weight_is_noticed(tmp_path, tokenizer, monkeypatch, value):
    """B36: planted after the merge, in what is read back; NaN is no small difference."""
    reload = module._reload

    def corrupted(directory, dtype):
        network = reload(directory, dtype)
        with torch.no_grad():
            network.model.layers[0].mlp.up_proj.weight[0, 0] += value
        return network

    monkeypatch.setattr(module, "_reload", corrupted)
    with pytest.raises(UserError, match="merge refused"):
        merge(adapted(), tokenizer, tmp_path / "m", PROBES)
    assert not (tmp_path / "m").exists()


def test_an_existing_output_is_refused_and_kept(tmp_path, tokenizer):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("precious")
    with pytest.raises(UserError, match="already exists"):
        merge(adapted(), tokenizer, tmp_path / "m", PROBES)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["mine"]


@pytest.mark.parametrize("problem", ["absent", "other shape", "garbage"])
def test_an_adapter_that_does_not_fit_is_one_line(tmp_path, problem):
    adapted().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    base = tiny_llama(vocab_size=300)
    if problem == "absent":
        shutil.rmtree(tmp_path / "adapter")
    elif problem == "other shape":
        base = tiny_llama(vocab_size=300, hidden_size=32)
    else:
        (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"garbage!" * 9)
    with pytest.raises(UserError) as caught:
        attach_adapter(base, tmp_path / "adapter")
    assert str(tmp_path / "adapter") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tolerance_grows_with_the_logits_and_shrinks_with_precision():
    assert default_tolerance("float32", 20.0) == 10 * default_tolerance("float32", 2.0)
    exact, half, brain = (default_tolerance(dtype, 10.0) for dtype in ("float32", "float16", "bfloat16"))
    assert exact < half < brain
    assert default_tolerance("float32", 0.0) > 0
