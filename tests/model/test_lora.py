"""What LoRA trains, and what an unknown name is told (B22)."""

import pytest
import torch
from safetensors.torch import load_file

from musician.model.checkpoint import save_weights
from musician.model.lora import attach_lora, count_parameters, trainable_parameters
from musician.model.merge import attach_adapter
from musician.runtime.errors import UserError

from .toys import lora, tiny_llama, token_ids, train_a_little

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SAVED = ["embed_tokens", "lm_head"]


def logits(network):
    with torch.no_grad():
        return network.eval()(input_ids=token_ids((2, 9)), use_cache=False).logits


@pytest.mark.parametrize("targets", [["q_proj"], ["k_proj", "down_proj"], PROJECTIONS])
@pytest.mark.parametrize("saved", [None, ["lm_head"], SAVED])
def test_the_trainable_set_is_the_declared_one(targets, saved):
    """B22: two matrices for each target in each layer, and the whole of what is saved; nothing else."""
    config = lora(targets, modules_to_save=saved)
    network = attach_lora(tiny_llama(), config)
    wanted = set()
    for layer in range(2):
        for target in targets:
            block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            root = f"base_model.model.model.layers.{layer}.{block}.{target}"
            wanted |= {f"{root}.lora_{side}.default.weight" for side in "AB"}
    places = {"embed_tokens": "base_model.model.model.embed_tokens", "lm_head": "base_model.model.lm_head"}
    wanted |= {f"{places[name]}.modules_to_save.default.weight" for name in saved or ()}
    assert set(trainable_parameters(network)) == wanted


def test_without_lora_everything_is_trained():
    network = tiny_llama()
    assert attach_lora(network, None) is network
    assert all(parameter.requires_grad for parameter in network.parameters())
    trainable, total = count_parameters(network)
    assert trainable == total == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_embedding_and_head_are_trained_saved_and_read_back(tied, tmp_path, tokenizer):
    """B22: and tied weights stay tied, before and after."""
    sizes = {"vocab_size": 300, "tie_word_embeddings": tied}
    network = train_a_little(attach_lora(tiny_llama(**sizes), lora(modules_to_save=SAVED)))
    wanted = logits(network)
    save_weights(network, tokenizer, tmp_path)
    names = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert any("embed_tokens" in name for name in names)
    assert not any("layers" in name and "lora_" not in name for name in names), "a base weight was saved"
    again = attach_adapter(tiny_llama(**sizes), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), wanted, rtol=0, atol=0)
    assert not torch.allclose(wanted, logits(tiny_llama(**sizes)), atol=1e-3)


def test_tied_embedding_and_head_are_one_trained_weight():
    network = attach_lora(tiny_llama(tie_word_embeddings=True), lora(modules_to_save=SAVED))
    lm = network.get_base_model()
    assert lm.get_output_embeddings().weight is lm.get_input_embeddings().weight
    assert count_parameters(network)[0] == sum(
        p.numel() for n, p in network.named_parameters() if p.requires_grad and "lora_" in n
    ) + (61 * 16)


def test_an_adapter_without_saved_modules_holds_adapters_only(tmp_path, tokenizer):
    save_weights(attach_lora(tiny_llama(), lora()), tokenizer, tmp_path)
    assert all("lora_" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))


def test_adapters_are_trained_in_fp32_on_a_half_precision_base():
    network = attach_lora(tiny_llama().to(torch.bfloat16), lora(modules_to_save=["lm_head"]))
    types = {p.requires_grad: set() for p in network.parameters()}
    for parameter in network.parameters():
        types[parameter.requires_grad].add(parameter.dtype)
    assert types == {True: {torch.float32}, False: {torch.bfloat16}}


@pytest.mark.parametrize("field", ["target_modules", "modules_to_save"])
def test_an_unknown_module_is_one_line_that_names_the_real_ones(field):
    changes = {"targets": ["query"]} if field == "target_modules" else {"modules_to_save": ["query"]}
    with pytest.raises(UserError) as caught:
        attach_lora(tiny_llama(), lora(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert f"lora.{field}" in message
    assert "'query'" in message
    for name in [*PROJECTIONS, "lm_head"]:
        assert name in message


def test_alpha_is_not_derived_from_the_rank():
    """A sweep over ranks keeps it fixed."""
    configs = [lora(r=r, lora_alpha=16) for r in (2, 8)]
    scalings = [
        attach_lora(tiny_llama(), c).get_base_model().model.layers[0].self_attn.q_proj.scaling["default"]
        for c in configs
    ]
    assert scalings == [8.0, 2.0]
