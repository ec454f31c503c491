"""The loss is that of the model's own class, whatever it makes of its head's output."""

import copy
import logging

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
)

from musician.model.attention import DOCUMENTS
from musician.model.logits import check_against_class, logits_adjustment, logits_head
from musician.model.loss import summed_nll
from musician.model.network import hidden_states
from musician.runtime.errors import UserError

from .test_attention import SIZES, network_of
from .toys import lora, token_ids

PLAIN = {
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
    "mixture of experts": GptOssConfig(**SIZES, head_dim=4, sliding_window=4, num_local_experts=4),
}
ADJUSTED = {
    "granite": GraniteConfig(**SIZES, logits_scaling=8.0, embedding_multiplier=3.0),
    "gemma2": Gemma2Config(**SIZES, head_dim=4, sliding_window=4, final_logit_softcapping=3.0),
    "cohere": CohereConfig(**SIZES, logit_scale=0.0625),
}
LENGTHS = [9, 3, 6]


def packed_loss(network):
    ids = token_ids((1, sum(LENGTHS)))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    labels = ids.masked_fill(positions == 0, -100)
    return summed_nll(hidden_states(network, ids, positions, LENGTHS), labels, logits_head(network), chunk=4)


def loss_of_the_class(network):
    """Each document alone, with all its logits."""
    total = 0.0
    for document in token_ids((1, sum(LENGTHS)))[0].split(LENGTHS):
        logits = network(input_ids=document[None], use_cache=False).logits[0, :-1]
        total = total + functional.cross_entropy(logits, document[1:], reduction="sum")
    return total


@pytest.mark.parametrize("name", [*PLAIN, *ADJUSTED])
def test_loss_and_gradients_are_those_of_the_class(name):
    config = {**PLAIN, **ADJUSTED}[name]
    network, reference = network_of(config, DOCUMENTS), network_of(config, "eager")
    check_against_class(network.eval(), packed=True)
    assert network.config._attn_implementation == DOCUMENTS
    found, wanted = packed_loss(network.train()), loss_of_the_class(reference)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)
    found.backward()
    wanted.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in reference.parameters() if p.grad is not None])
    for one, other in zip(network.parameters(), reference.parameters(), strict=True):
        if other.grad is not None:
            assert (one.grad - other.grad).norm() <= 1e-4 * norm


@pytest.mark.parametrize("name", ADJUSTED)
def test_the_head_alone_is_not_enough(name, caplog):
    """Else the test above would prove nothing; and the log reports it."""
    network = network_of(ADJUSTED[name], DOCUMENTS).eval()
    raw = hidden_states(network, token_ids((1, 9)))
    assert not torch.allclose(network.lm_head(raw), logits_head(network)(raw), rtol=1e-3)
    with caplog.at_level(logging.INFO):
        check_against_class(network, packed=False)
    assert "scales or caps" in caplog.text


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_head_is_used_itself(name):
    network = network_of(PLAIN[name], DOCUMENTS)
    assert logits_adjustment(network) is None
    assert logits_head(network) is network.lm_head


def test_an_adapted_and_saved_head_is_adjusted_too():
    network = get_peft_model(
        network_of(ADJUSTED["granite"], DOCUMENTS), lora(["q_proj"], modules_to_save=["lm_head"])
    ).eval()
    with torch.no_grad():
        network.get_base_model().lm_head.modules_to_save["default"].weight.mul_(2)
        torch.testing.assert_close(packed_loss(network), loss_of_the_class(network), rtol=1e-4, atol=0)


def test_a_cap_is_seen_on_a_network_whose_logits_are_small():
    config = copy.deepcopy(ADJUSTED["gemma2"])
    config.initializer_range, config.final_logit_softcapping = 1e-3, 30.0
    assert logits_adjustment(network_of(config, DOCUMENTS)) is not None


def test_layers_that_mix_documents_are_refused_when_packed():
    config = FalconH1Config(**{**SIZES, "hidden_size": 32}, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_state=8)
    network = network_of(config, DOCUMENTS).eval()
    check_against_class(network, packed=False)
    with pytest.raises(UserError, match=r"FalconH1ForCausalLM.*data\.packing=false"):
        check_against_class(network, packed=True)


def test_attention_that_differs_is_left_to_transformers(caplog):
    """A layer that this attention knows nothing of: sdpa and the mask of transformers run instead."""
    network = network_of(PLAIN["llama"], DOCUMENTS).eval()
    network.config.layer_types = ["chunked_attention"] * 2
    check_against_class(network, packed=True)
    assert network.config._attn_implementation == "sdpa"
    assert "sdpa, because LlamaForCausalLM" in caplog.text
    torch.testing.assert_close(packed_loss(network), loss_of_the_class(network), rtol=1e-4, atol=0)


def test_a_body_that_is_not_the_class_s_own_is_refused():
    network = network_of(PLAIN["llama"], DOCUMENTS).eval()

    class Other(type(network)):
        def forward(self, **arguments):
            found = super().forward(**arguments)
            if arguments["input_ids"].shape[1] > 1:
                found.logits = found.logits + torch.arange(61.0)
            return found

    network.__class__ = Other
    with pytest.raises(UserError, match="differ from its own by 60"):
        check_against_class(network, packed=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_16_bits_with_trained_weights_in_fp32(dtype):
    network = get_peft_model(
        network_of(PLAIN["llama"], DOCUMENTS).to(dtype), lora(["q_proj"], modules_to_save=["lm_head", "embed_tokens"])
    ).eval()
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    check_against_class(network, packed=True)
    assert isinstance(logits_head(network), nn.Module)


def test_loading_by_name_keeps_the_adjustment(tmp_path):
    network_of(ADJUSTED["granite"], "sdpa").save_pretrained(tmp_path)
    assert logits_adjustment(AutoModelForCausalLM.from_pretrained(tmp_path)) is not None
