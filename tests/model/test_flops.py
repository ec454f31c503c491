"""FLOPs of a token by the formula of the performance study, computed by hand."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from musician.model.flops import measured_peak, recomputed_flops_per_token, training_flops_per_token
from musician.model.loss import summed_nll
from musician.model.network import hidden_states, output_head

from .toys import lora, tiny_llama, token_ids

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

#: SmolLM2-135M.
WIDTH, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 576, 30, 9, 3, 1536, 49152
KV = WIDTH // HEADS * KV_HEADS
SHAPES = [(WIDTH, WIDTH), (WIDTH, KV), (WIDTH, KV), (WIDTH, WIDTH), (WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH)]


def smollm2(rank, saved=None):
    with torch.device("meta"):
        network = tiny_llama(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            tie_word_embeddings=True,
        )
        if rank is None:
            return network
        tying = {"ensure_weight_tying": True} if saved else {}
        return get_peft_model(network, LoraConfig(r=rank, target_modules=PROJECTIONS, modules_to_save=saved, **tying))


@pytest.mark.parametrize(("context", "stated"), [(1024, 0.867e9), (603, 0.780e9)])
def test_smollm2_with_lora(context, stated):
    """4(P+E) + 6R + 3A."""
    blocks = LAYERS * sum(inputs * outputs for inputs, outputs in SHAPES)
    adapters = LAYERS * sum(64 * (inputs + outputs) for inputs, outputs in SHAPES)
    by_hand = 4 * (blocks + VOCABULARY * WIDTH) + 6 * adapters + 3 * 4 * LAYERS * WIDTH * context
    found = training_flops_per_token(smollm2(64), context)
    assert found == pytest.approx(by_hand, rel=1e-12)
    assert found == pytest.approx(stated, rel=0.01)


@pytest.mark.parametrize(("context", "stated"), [(1024, 0.924e9), (603, 0.837e9)])
def test_smollm2_with_lora_and_a_trained_head(context, stated):
    assert training_flops_per_token(smollm2(64, ["embed_tokens", "lm_head"]), context) == pytest.approx(
        stated, rel=0.01
    )


@pytest.mark.parametrize(("context", "stated"), [(1024, 1.019e9), (603, 0.932e9)])
def test_smollm2_with_every_weight_trained(context, stated):
    assert training_flops_per_token(smollm2(None), context) == pytest.approx(stated, rel=0.01)


def test_every_weight_trained_is_what_torch_counts():
    """torch does not count that causal attention skips half, hence a context of the whole length."""
    length = 32
    network = tiny_llama(attn_implementation="eager", num_key_value_heads=4)
    ids = token_ids((1, length))
    with FlopCounterMode(display=False) as counter:
        network(ids, use_cache=False).logits.sum().backward()
    # The first layer's input needs a gradient too: the embedding is trained.
    rotary = counter.get_total_flops() - length * training_flops_per_token(network, length)
    assert 0 <= rotary / counter.get_total_flops() < 0.01


def test_lora_costs_what_torch_counts_of_the_real_loss():
    """Ours recomputes no logits: 4 E for a frozen head. Below the first adapter nothing needs a gradient."""
    length = 32
    network = get_peft_model(tiny_llama(attn_implementation="eager", num_key_value_heads=4), lora(PROJECTIONS))
    ids = token_ids((1, length))
    with FlopCounterMode(display=False) as counter:
        summed_nll(hidden_states(network, ids), ids, output_head(network)).backward()
    assert counter.get_total_flops() == pytest.approx(length * training_flops_per_token(network, length), rel=0.12)


def test_checkpointing_computes_the_blocks_again_as_torch_counts():
    """HFU's part: 2(P+R) + A, neither head nor loss; the last layer's last product is not needed again."""
    length, counts = 32, []
    for checkpointing in (False, True):
        network = tiny_llama(attn_implementation="eager", num_key_value_heads=4, num_hidden_layers=6)
        network.train()
        if checkpointing:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        ids = token_ids((1, length))
        with FlopCounterMode(display=False) as counter:
            summed_nll(hidden_states(network, ids), ids, output_head(network)).backward()
        counts.append(counter.get_total_flops())
        assert (recomputed_flops_per_token(network, length) > 0) == checkpointing
    assert counts[1] - counts[0] == pytest.approx(length * recomputed_flops_per_token(network, length), rel=0.15)


def test_the_measured_rate_is_one_that_a_product_really_reaches():
    assert 1e8 < measured_peak(torch.device("cpu"), torch.float32, seconds=0.02) < 1e15
