"""Attention of one document at a time gives what transformers' mask over the whole row gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model

from musician.model.attention import DOCUMENTS, choose_kernel, document_arguments, loop, register
from musician.model.loss import summed_nll
from musician.model.network import hidden_states, load_network, output_head

from .toys import lora, tiny_llama, token_ids

register()


def positions_of(rows):
    """One row of positions for each list of document lengths; all rows of one length."""
    return torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in rows])


def loss_and_gradients(attention, ids, positions, **changes):
    torch.manual_seed(0)
    network = get_peft_model(tiny_llama(attn_implementation=attention, **changes), lora(["q_proj", "v_proj", "o_proj"]))
    nll = summed_nll(hidden_states(network, ids, positions), ids, output_head(network))
    nll.backward()
    return nll.detach(), [p.grad for p in network.parameters() if p.requires_grad]


@pytest.mark.parametrize("key_value_heads", [1, 2, 4])
@pytest.mark.parametrize("rows", [[[5, 1, 7]], [[13]], [[1] * 6], [[5, 1, 7], [13]], [[2, 3], [4, 1], [5]]])
def test_loss_and_gradients_are_those_of_the_mask(rows, key_value_heads):
    positions = positions_of(rows)
    ids = token_ids(positions.shape)
    sizes = {"num_key_value_heads": key_value_heads}
    expected, wanted = loss_and_gradients("eager", ids, positions, **sizes)
    found, gradients = loss_and_gradients(DOCUMENTS, ids, positions, **sizes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    norm = torch.nn.utils.get_total_norm(wanted)
    assert norm > 0
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * norm


@pytest.mark.parametrize("lengths", [[64, 65], [200, 1, 130], [513, 20]])
def test_documents_of_several_blocks_of_queries(lengths):
    """Up to 512 tokens each is computed in blocks of 64 queries, above by torch's own kernel."""
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1, heads, sum(lengths), 16, generator=generator, requires_grad=True) for heads in (6, 2, 2)]
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (document[:, None] == document).tril()
    query, key, value = (s if s.shape[1] == 6 else s.repeat_interleave(3, 1) for s in states)
    scores = (query @ key.transpose(2, 3) * 0.3).masked_fill(~mask, float("-inf"))
    wanted = (scores.softmax(-1) @ value)[0].transpose(0, 1)
    found = loop(*states, lengths, 0.0, 0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    direction = torch.randn(wanted.shape, generator=generator)
    for one, other in zip(*(torch.autograd.grad((y * direction).sum(), states) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=3))
def test_bounds_cut_the_flattened_batch_into_its_documents(rows):
    width = max(sum(lengths) for lengths in rows)
    rows = [lengths + [width - sum(lengths)] * (width > sum(lengths)) for lengths in rows]
    arguments = document_arguments(positions_of(rows))
    assert arguments["document_lengths"] == [length for lengths in rows for length in lengths]
    assert arguments["cu_seq_lens_q"].tolist()[-1] == len(rows) * width


def test_a_row_that_begins_inside_a_document_does_not_join_the_row_before():
    arguments = document_arguments(torch.tensor([[0, 1, 2], [3, 4, 0]]))
    assert arguments["document_lengths"] == [3, 2, 1]


@pytest.mark.parametrize("left_padded", [False, True])
def test_whoever_tells_no_documents_gets_sdpa(left_padded):
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


def test_packed_positions_without_boundaries_do_not_leak():
    ids, positions = token_ids((1, 13)), positions_of([[5, 1, 7]])
    reference, documents = (tiny_llama(attn_implementation=name).eval() for name in ("eager", DOCUMENTS))
    wanted, found = (n(input_ids=ids, position_ids=positions, use_cache=False).logits for n in (reference, documents))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_name_is_one_that_a_config_may_give(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    network = load_network(str(tmp_path), attn_implementation=DOCUMENTS)
    assert network.config._attn_implementation == DOCUMENTS


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "kernel"),
    [
        ("cpu", torch.float32, (0, 0), "loop"),
        ("cuda", torch.float16, (7, 0), "loop"),
        ("cuda", torch.float32, (9, 0), "loop"),
        ("cuda", torch.bfloat16, (9, 0), "varlen"),
    ],
)
def test_the_kernel_follows_from_the_capability_and_says_why(device, dtype, capability, kernel):
    name, reason = choose_kernel(torch.device(device), dtype, capability)
    assert name == kernel
    assert reason
    assert "\n" not in reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_call_for_all_documents_is_the_loop_on_a_gpu():
    from musician.model.attention import _varlen

    lengths, generator = [70, 1, 129, 56], torch.Generator("cuda").manual_seed(0)
    shapes = [(1, heads, sum(lengths), 64) for heads in (6, 2, 2)]
    states = [torch.randn(s, device="cuda", dtype=torch.bfloat16, generator=generator) for s in shapes]
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], device="cuda", dtype=torch.int32)
    one = _varlen(*states, bounds, max(lengths), None)
    torch.testing.assert_close(one, loop(*states, lengths, 0.0, None), rtol=2e-2, atol=2e-2)
