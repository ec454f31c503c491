"""A micro-batch computed some documents at a time has the loss and gradients of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model

from musician.model.attention import DOCUMENTS, register
from musician.model.loss import IGNORED
from musician.model.passes import Documents, SummedNLL, cut

from .toys import lora, tiny_llama, token_ids, train_a_little

register()


def packed(rows, prompts=1):
    """Documents of these lengths in rows of one width, right-padded; the first `prompts` tokens are no targets."""
    width = max(map(sum, rows))
    ids = token_ids((len(rows), width))
    labels, positions = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, lengths in enumerate(rows):
        start = 0
        for length in lengths:
            labels[row, start + prompts : start + length] = ids[row, start + prompts : start + length]
            positions[row, start : start + length] = torch.arange(length)
            start += length
        positions[row, start:] = torch.arange(width - start)
    return Documents(ids, labels, positions)


def adapted(**config):
    network = tiny_llama(attn_implementation=DOCUMENTS)
    return train_a_little(get_peft_model(network, lora(["q_proj", "v_proj", "down_proj"], **config)))


def loss_and_gradients(network, batch, **options):
    nll = SummedNLL(network, **options)(*batch)
    network.zero_grad()
    nll.backward()
    return nll.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


ROWS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 30), st.integers(1, 3))
def test_every_target_is_in_one_group_with_all_that_it_sees(rows, tokens, prompts):
    batch = packed(rows, prompts)
    groups = cut(batch, tokens)
    found = [
        tuple(group.input_ids[0, end - place : end + 1].tolist())
        for group in groups
        for end, place in enumerate(group.position_ids[0].tolist())
        if group.labels[0, end] != IGNORED
    ]
    wanted = [
        tuple(batch.input_ids[row, start : start + place + 1].tolist())
        for row, lengths in enumerate(rows)
        for start, length in zip([sum(lengths[:n]) for n in range(len(lengths))], lengths, strict=True)
        for place in range(prompts, length)
    ]
    assert sorted(found) == sorted(wanted)
    for group in groups:
        lengths = [*(group.position_ids[0] == 0).nonzero().flatten().tolist(), group.input_ids.shape[1]]
        assert group.input_ids.shape[1] <= tokens or len(lengths) == 2


def test_a_document_joins_the_first_group_that_has_room_the_longest_first():
    groups = cut(packed([[3, 6, 4], [7, 2, 9]], prompts=1), 10)
    assert [group.input_ids.shape[1] for group in groups] == [9, 10, 10, 2]
    starts = [(group.position_ids[0] == 0).nonzero().flatten().diff().tolist() for group in groups]
    assert starts == [[], [7], [6], []]


def test_documents_without_targets_and_padding_are_not_computed():
    batch = packed([[4, 2, 5], [3]], prompts=3)
    assert sum(group.input_ids.numel() for group in cut(batch, 100)) == 4 + 5


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("tokens", [1, 6, 11, 1000])
@pytest.mark.parametrize("config", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}])
def test_loss_and_gradients_are_those_of_the_whole(fold, tokens, config):
    network, batch = adapted(**config), packed([[5, 1, 7, 3], [9, 4]], prompts=2)
    wanted, expected = loss_and_gradients(network, batch)
    found, gradients = loss_and_gradients(network, batch, fold_lora=fold, tokens=tokens)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    assert gradients.keys() == expected.keys()
    norm = torch.nn.utils.get_total_norm(expected.values())
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (gradients[name] - gradient).norm() <= 1e-5 * norm, name


def test_the_gradient_follows_what_is_made_of_the_loss():
    network, batch = adapted(), packed([[5, 7], [9, 3]])
    _, once = loss_and_gradients(network, batch, tokens=6)
    network.zero_grad()
    (SummedNLL(network, tokens=6)(*batch) * -0.25 + 3).backward()
    for name, gradient in once.items():
        torch.testing.assert_close(network.get_parameter(name).grad, -0.25 * gradient)


def test_nothing_supervised_still_gives_every_weight_its_gradient():
    """ZeRO-1 reduces a weight's gradient when the last micro-batch of a step gives it one."""
    network = adapted()
    batch = packed([[3, 2]], prompts=5)
    nll, gradients = loss_and_gradients(network, batch, tokens=4)
    assert nll == 0
    assert len(gradients) == sum(p.requires_grad for p in network.parameters())
    assert not any(gradient.any() for gradient in gradients.values())


def most_bytes_saved(compute):
    """The most bytes of activations that autograd keeps at any one time."""
    alive = most = 0

    class Kept:
        def __init__(self, tensor):
            nonlocal alive, most
            self.tensor, self.bytes = tensor, 0 if tensor.is_leaf else tensor.nbytes
            alive += self.bytes
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        compute()
    return most


@pytest.mark.parametrize("fold", [False, True])
def test_activations_of_one_group_exist_at_a_time(fold):
    network, batch = adapted(), packed([[6] * 8])
    whole, eighth = (
        most_bytes_saved(lambda tokens=tokens: SummedNLL(network, fold, tokens)(*batch).backward())
        for tokens in (None, 6)
    )
    assert 0 < eighth < whole / 6


def test_without_gradients_nothing_is_differentiated():
    network, batch = adapted().eval(), packed([[5, 7], [9, 3]])
    with torch.no_grad():
        found = SummedNLL(network, tokens=6)(*batch)
    assert not found.requires_grad
    torch.testing.assert_close(found, SummedNLL(network)(*batch).detach())


@pytest.mark.parametrize("options", [{}, {"tokens": 6}, {"fold_lora": True}, {"tokens": 6, "fold_lora": True}])
def test_rows_add_up_to_the_batch(options):
    network, batch = adapted().eval(), packed([[5, 7], [9, 3], [2]])
    with torch.no_grad():
        rows = SummedNLL(network, **options).of_rows(*batch)
        alone = [SummedNLL(network)(*(states[row : row + 1] for states in batch)) for row in range(3)]
    torch.testing.assert_close(rows, torch.stack(alone))


def test_a_network_that_cannot_be_folded_is_computed_by_its_modules_and_says_why():
    network, batch = adapted(lora_dropout=0.5).eval(), packed([[5, 7]])
    nll = SummedNLL(network, fold_lora=True)
    assert "lora_dropout" in nll.not_folded
    torch.testing.assert_close(nll(*batch), SummedNLL(network)(*batch))
