"""Attention of one document at a time equals transformers' own attention over each document alone."""

import copy

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

from musician.model.attention import DOCUMENTS, has_varlen
from musician.model.network import hidden_states, load_network

from .toys import lora, tiny_llama, token_ids

SIZES = {
    **{"vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "one head of keys": LlamaConfig(**{**SIZES, "num_key_value_heads": 1}),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
    "qwen": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=3, max_window_layers=1),
    # attention scores are capped, which SDPA cannot
    "gemma2": Gemma2Config(**SIZES, head_dim=4, sliding_window=4, attn_logit_softcapping=2.0),
}


def network_of(config, attention, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention).train()


def packed(rows):
    """Ids, positions and the lengths of all documents; shorter rows end in padding."""
    width = max(map(sum, rows))
    rows = [[*lengths, width - sum(lengths)] if sum(lengths) < width else lengths for lengths in rows]
    positions = torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in rows])
    return token_ids(positions.shape), positions, [length for lengths in rows for length in lengths]


def gradients(network):
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def some_loss(states):
    return (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))).sum()


def states_one_by_one(network, ids, lengths):
    """The hidden states of each document by the network's own forward pass."""
    documents = ids.flatten().split(lengths)
    body = getattr(network, network.base_model_prefix)
    return torch.cat([body(input_ids=document[None], use_cache=False).last_hidden_state[0] for document in documents])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("rows", [[[5, 1, 7]], [[13]], [[1] * 6], [[5, 1, 7], [9]], [[2, 3], [4, 1], [5]]])
def test_states_and_gradients_are_those_of_each_document_alone(name, rows):
    ids, positions, lengths = packed(rows)
    reference, network = network_of(CONFIGS[name], "eager"), network_of(CONFIGS[name], DOCUMENTS)
    wanted = states_one_by_one(reference, ids, lengths)
    found = hidden_states(network, ids, positions, lengths).flatten(0, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for states in (found, wanted):
        some_loss(states).backward()
    norm = torch.nn.utils.get_total_norm(gradients(reference).values())
    assert norm > 0
    for key, gradient in gradients(network).items():
        assert (gradient - gradients(reference)[key]).norm() <= 1e-5 * norm, key


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_bf16_autocast_forward_and_backward(stored):
    """Adapters stay fp32, and their gradients are those of fp32 within the rounding of bf16."""
    ids, positions, lengths = packed([[5, 1, 7], [9]])
    found = []
    for mixed in (False, True):
        torch.manual_seed(0)
        network = get_peft_model(tiny_llama(attn_implementation=DOCUMENTS), lora(["q_proj", "v_proj", "down_proj"]))
        for parameter in network.parameters():
            if mixed and not parameter.requires_grad:
                parameter.data = parameter.data.to(stored)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            some_loss(hidden_states(network, ids, positions, lengths).float()).backward()
        assert {gradient.dtype for gradient in gradients(network).values()} == {torch.float32}
        found.append(torch.cat([gradient.flatten() for gradient in gradients(network).values()]))
    exact, rounded = found
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_gradient_checkpointing_changes_nothing():
    ids, positions, lengths = packed([[5, 1, 7]])
    found = []
    for checkpointing in (False, True):
        network = tiny_llama(attn_implementation=DOCUMENTS)
        if checkpointing:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        some_loss(hidden_states(network, ids, positions, lengths)).backward()
        found.append(gradients(network))
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


@pytest.mark.parametrize("left_padded", [False, True])
def test_calls_without_documents_are_sdpa(left_padded):
    """The benchmarks' cache and generation's 2-D mask keep their meaning."""
    ids = token_ids((2, 7))
    mask = torch.ones_like(ids)
    if left_padded:
        mask[1, :3] = 0
    reference, documents = (tiny_llama(attn_implementation=name).eval() for name in ("sdpa", DOCUMENTS))
    wanted, found = (n(input_ids=ids, attention_mask=mask, use_cache=False).logits for n in (reference, documents))
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()])
    made = [n.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False) for n in (reference, documents)]
    assert torch.equal(*made)


def test_a_cache_works_where_scores_are_capped():
    ids = token_ids((1, 9))
    reference, network = (network_of(CONFIGS["gemma2"], name).eval() for name in ("eager", DOCUMENTS))
    made = [n.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True) for n in (reference, network)]
    assert torch.equal(*made)


def test_packed_positions_without_lengths_do_not_leak():
    ids, positions, _ = packed([[5, 1, 7]])
    reference, documents = (tiny_llama(attn_implementation=name).eval() for name in ("eager", DOCUMENTS))
    wanted, found = (n(input_ids=ids, position_ids=positions, use_cache=False).logits for n in (reference, documents))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_name_is_one_that_a_config_may_name(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    network = load_network(str(tmp_path), attn_implementation=DOCUMENTS)
    assert network.config._attn_implementation == DOCUMENTS


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "found"),
    [
        ("cpu", torch.bfloat16, (0, 0), False),
        ("cuda", torch.float16, (7, 0), False),
        ("cuda", torch.float32, (9, 0), False),
        ("cuda", torch.bfloat16, (9, 0), True),
    ],
)
def test_one_call_for_all_documents_needs_flash_attention(monkeypatch, device, dtype, capability, found):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert has_varlen(torch.device(device), dtype) is found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_one_call_for_all_documents_on_a_gpu(name):
    config = copy.deepcopy(CONFIGS[name])
    config.update({"hidden_size": 256, "head_dim": 64})
    ids, positions, lengths = packed([[70, 1, 129, 56]])
    network = network_of(config, DOCUMENTS).cuda().bfloat16().eval()
    wanted = states_one_by_one(network, ids.cuda(), lengths)
    found = hidden_states(network, ids.cuda(), positions.cuda(), lengths)[0]
    torch.testing.assert_close(found, wanted, rtol=5e-2, atol=5e-2)
