"""Where a network comes from, what it refuses, and that packed documents do not see one another."""

import copy

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaForCausalLM

from musician.model.loss import summed_nll
from musician.model.network import check_vocabulary, hidden_states, load_network, output_head, random_llama
from musician.runtime.errors import UserError

from .toys import lora, tiny_llama, token_ids

LENGTHS = (5, 1, 7)


def packed_positions(lengths=LENGTHS):
    return torch.cat([torch.arange(length) for length in lengths])[None]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("adapted", [False, True])
def test_documents_of_a_row_are_read_as_if_alone(training, attention, adapted):
    network = tiny_llama(attn_implementation=attention)
    network = (get_peft_model(network, lora()) if adapted else network).train(training)
    ids = token_ids((1, sum(LENGTHS)))
    packed = hidden_states(network, ids, packed_positions())
    alone = [hidden_states(network, part) for part in ids.split(LENGTHS, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)
    mixed = hidden_states(network, ids, torch.arange(sum(LENGTHS))[None])
    assert not torch.allclose(packed, mixed, atol=1e-3), "documents do see each other where positions say so"


@pytest.mark.parametrize("rows", [1, 2])
def test_what_one_document_says_does_not_move_another(rows):
    network = tiny_llama().eval()
    ids = token_ids((rows, sum(LENGTHS)))
    changed = ids.clone()
    changed[:, : LENGTHS[0]] = (changed[:, : LENGTHS[0]] + 7) % 61
    positions = packed_positions().expand(rows, -1)
    before, after = (hidden_states(network, x, positions)[:, LENGTHS[0] :] for x in (ids, changed))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_right_padding_changes_nothing_before_it():
    network = tiny_llama().eval()
    ids = token_ids((2, 6))
    padded = torch.cat([ids, torch.full((2, 4), 2)], dim=1)
    positions = torch.cat([torch.arange(6), torch.arange(4)])[None].expand(2, -1)
    torch.testing.assert_close(hidden_states(network, padded, positions)[:, :6], hidden_states(network, ids))


@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_no_gradient(tmp_path, adapted):
    tiny_llama().save_pretrained(tmp_path)
    ids, found = token_ids((2, 12)), []
    for checkpointing in (False, True):
        network = load_network(str(tmp_path), gradient_checkpointing=checkpointing)
        assert network.is_gradient_checkpointing is checkpointing
        if adapted:
            torch.manual_seed(0)
            network = get_peft_model(network, lora())
        calls = []
        layer = (network.get_base_model() if adapted else network).model.layers[0]
        layer.self_attn.q_proj.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        summed_nll(hidden_states(network, ids), ids, output_head(network)).backward()
        found.append(({n: p.grad for n, p in network.named_parameters() if p.requires_grad}, len(calls)))
    (plain, once), (recomputed, twice) = found
    assert (once, twice) == (1, 2), "the layer was not recomputed"
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-7)


def test_a_saved_directory_loads_to_the_same_network_in_training_mode(tmp_path):
    saved = tiny_llama()
    saved.save_pretrained(tmp_path)
    network = load_network(str(tmp_path))
    assert network.training
    assert not network.config.use_cache
    ids = token_ids((2, 8))
    torch.testing.assert_close(network(ids).logits, saved(ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_type_asked_for_is_loaded(tmp_path, dtype):
    tiny_llama().save_pretrained(tmp_path)
    assert {p.dtype for p in load_network(str(tmp_path), dtype=dtype).parameters()} == {getattr(torch, dtype)}


@pytest.mark.parametrize("content", [{}, {"config.json": "{}"}, {"config.json": "not json"}])
def test_a_directory_without_a_model_is_one_line(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        load_network(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_weights_file_is_one_line(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_network(str(tmp_path))


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file or directory"):
        load_network(str(tmp_path / "absent"))


def test_random_networks_repeat_and_leave_the_random_state_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (random_llama(50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(one, LlamaForCausalLM)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: get_peft_model(n, lora(modules_to_save=["embed_tokens"]))])
def test_a_tokenizer_without_rows_is_refused_and_spare_rows_stay(tokenizer, wrap):
    """B9: ids beyond the embedding are refused with both sizes. B10: spare rows are fine and never removed."""
    ids = len(tokenizer)
    with pytest.raises(UserError, match=f"{ids} ids, the embedding {ids - 1} rows"):
        check_vocabulary(wrap(tiny_llama(vocab_size=ids - 1)), tokenizer)
    for rows in (ids, ids + 5):
        network = wrap(tiny_llama(vocab_size=rows))
        check_vocabulary(network, tokenizer)
        assert network.get_input_embeddings().weight.shape[0] == rows


def test_a_token_added_to_the_tokenizer_is_noticed(tokenizer):
    """B9: the original adds `<pad>` as id 32000 to a model of 32000 rows."""
    grown = copy.deepcopy(tokenizer)
    network = tiny_llama(vocab_size=len(grown))
    check_vocabulary(network, grown)
    grown.add_tokens(["<pad>"])
    with pytest.raises(UserError, match="do not match"):
        check_vocabulary(network, grown)


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_that_is_trained_is_the_head_that_is_used(tied):
    config = lora(modules_to_save=["embed_tokens", "lm_head"], ensure_weight_tying=tied)
    network = get_peft_model(tiny_llama(tie_word_embeddings=tied), config)
    assert output_head(network).weight.requires_grad
    with torch.no_grad():
        output_head(network).weight.mul_(2.0)
    ids = token_ids((1, 5))
    logits = network.eval()(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(output_head(network)(hidden_states(network, ids)), logits)
    with network.disable_adapter():
        plain = network(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(output_head(network)(hidden_states(network, ids)), plain)
