"""A Llama computed with its adapters folded gives the loss and gradients of transformers' and peft's own modules."""

import pytest
import torch
from peft import get_peft_model

from musician.model.attention import DOCUMENTS, register
from musician.model.folded import FoldedLlama, refusal
from musician.model.loss import summed_nll
from musician.model.network import hidden_states, output_head

from .toys import lora, tiny_llama, token_ids, train_a_little

register()

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip


def adapted(targets=ALL, changes=None, attention=DOCUMENTS, **config):
    """A network whose adapters and norms are away from their first values."""
    torch.manual_seed(0)
    network = tiny_llama(attn_implementation=attention, **(changes or {}))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return train_a_little(get_peft_model(network, lora(list(targets), **config)))


def loss_and_gradients(network, body, ids, positions):
    nll = summed_nll(body(ids, positions), ids, output_head(network))
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return nll.detach(), dict(zip(trained, torch.autograd.grad(nll, list(trained.values())), strict=True))


def check_equal(network, rows=((5, 1, 7), (13,))):
    positions = torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in rows])
    ids = token_ids(positions.shape)
    folded = FoldedLlama(network)
    folded.fold()
    wanted, expected = loss_and_gradients(
        network, lambda ids, positions: hidden_states(network, ids, positions), ids, positions
    )
    found, gradients = loss_and_gradients(network, folded, ids, positions)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    norm = torch.nn.utils.get_total_norm(expected.values())
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        difference = (gradients[name] - gradient).norm()
        assert difference <= 1e-5 * norm, name
        assert difference <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"head_dim": 6},
        {"rope_parameters": LLAMA3},
        {"tie_word_embeddings": True},
        {"rms_norm_eps": 0.1},
    ],
)
def test_loss_and_gradients_are_those_of_the_modules(changes):
    check_equal(adapted(changes=changes))


@pytest.mark.parametrize("targets", [["q_proj"], ["v_proj", "gate_proj"], ["down_proj", "o_proj"], ["up_proj"]])
def test_projections_without_adapters(targets):
    check_equal(adapted(targets))


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": [*ALL, "lm_head"]},
    ],
)
def test_other_adapters_and_trained_embeddings(config):
    check_equal(adapted(config.pop("target_modules", ALL), **config))


def test_rows_of_one_token_documents():
    check_equal(adapted(), rows=((1, 1, 3),))


def test_it_follows_the_adapters_as_they_are_trained():
    network = adapted()
    folded, ids = FoldedLlama(network), token_ids((1, 9))
    for seed in (1, 2):
        train_a_little(network, seed)
        folded.fold()
        positions = torch.arange(9)[None]
        torch.testing.assert_close(folded(ids, positions), hidden_states(network, ids, positions))


def test_training_goes_on_after_a_validation_in_inference_mode():
    network = adapted()
    folded, ids, positions = FoldedLlama(network), token_ids((1, 9)), torch.arange(9)[None]
    with torch.inference_mode():
        folded.fold()
        validated = folded(ids, positions)
    folded.fold()
    trained = folded(ids, positions)
    trained.sum().backward()
    assert torch.equal(trained, validated)


def test_the_network_itself_is_not_changed():
    network = adapted()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_equal(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def with_a_trained_norm():
    network = adapted()
    network.get_base_model().model.layers[0].input_layernorm.weight.requires_grad_(True)
    return network


def merged():
    network = adapted()
    network.merge_adapter()
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: adapted(lora_dropout=0.1), "lora_dropout"),
        (lambda: adapted(use_dora=True), "plain LoRA"),
        (lambda: adapted(lora_bias=True), "bias"),
        (lambda: adapted(attention="sdpa"), "attn_implementation=sdpa"),
        (lambda: adapted(changes={"attention_bias": True}), "biases"),
        (lambda: adapted(changes={"hidden_act": "gelu"}), "silu"),
        (lambda: adapted().half(), None),
        (lambda: tiny_llama(attn_implementation=DOCUMENTS), "besides the adapters"),
        (with_a_trained_norm, "besides the adapters"),
        (merged, "merged"),
    ],
)
def test_what_cannot_be_folded_is_named(make, reason):
    found = refusal(make())
    assert found is None if reason is None else reason in found
