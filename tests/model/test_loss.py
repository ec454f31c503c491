"""The loss is cross entropy over full logits, computed without them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musician.model.loss import summed_nll
from musician.model.network import hidden_states, output_head

from .toys import lora, tiny_llama, token_ids

IGNORED = -100
SAVED = ["embed_tokens", "lm_head"]


class LargestTensor(TorchDispatchMode):
    """Watches every operation and remembers the largest tensor that one made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numel = max([self.numel, *(tensor.numel() for tensor in tensors)])
        return result


def full_nll(hidden, labels, head):
    """The same loss with all logits at once."""
    logits = head(hidden[:, :-1]).float().flatten(0, 1)
    return functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def batch(seed=0, rows=3, length=11):
    ids = token_ids((rows, length), seed)
    labels = torch.where(torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed)) < 0.6, ids, IGNORED)
    return ids, labels


def gradients(network):
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def check_against_transformers(network, chunk):
    """Value and every gradient equal those of transformers' logits; the same weights get one."""
    reference = copy.deepcopy(network)
    ids, labels = batch()
    logits = reference(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
    wanted = functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
    wanted.backward()
    found = summed_nll(hidden_states(network, ids), labels, output_head(network), chunk)
    found.backward()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-5)
    assert gradients(network).keys() == gradients(reference).keys()
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(gradient, gradients(reference)[name], rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_equals_transformers_where_everything_is_trained(tied, chunk):
    check_against_transformers(tiny_llama(tie_word_embeddings=tied), chunk)


@pytest.mark.parametrize(
    ("tied", "changes"),
    [
        pytest.param(False, {}, id="head frozen"),
        pytest.param(True, {}, id="head frozen and tied"),
        pytest.param(False, {"modules_to_save": SAVED}, id="head trained and saved"),
        pytest.param(True, {"modules_to_save": SAVED, "ensure_weight_tying": True}, id="head trained and tied"),
        pytest.param(False, {"targets": ["q_proj", "lm_head"]}, id="head adapted by LoRA"),
    ],
)
def test_equals_transformers_with_lora(tied, changes):
    check_against_transformers(get_peft_model(tiny_llama(tie_word_embeddings=tied), lora(**changes)), 4)


def test_the_loss_is_that_of_transformers_own_labels():
    network, (ids, labels) = tiny_llama(), batch()
    mean = network(input_ids=ids, labels=labels, use_cache=False).loss
    found = summed_nll(hidden_states(network, ids), labels, output_head(network))
    torch.testing.assert_close(found / (labels[:, 1:] != IGNORED).sum(), mean)


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans(), st.booleans(), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_any_chunk_gives_the_loss_and_gradients_of_all_logits(seed, chunk, bias, frozen, length):
    torch.manual_seed(seed)
    head = nn.Linear(8, 17, bias=bias).requires_grad_(not frozen)
    hidden = torch.randn(3, length, 8, requires_grad=True)
    labels = torch.randint(0, 17, (3, length))
    labels[torch.rand(labels.shape) < 0.3] = IGNORED
    weights = [hidden, *(p for p in head.parameters() if p.requires_grad)]
    found, wanted = summed_nll(hidden, labels, head, chunk), full_nll(hidden, labels, head)
    torch.testing.assert_close(found, wanted)
    if not (labels[:, 1:] != IGNORED).any():
        return
    # A factor other than 1 shows that the gradients made in the forward pass are scaled by what arrives.
    for one, other in zip(
        torch.autograd.grad(3.5 * found, weights), torch.autograd.grad(3.5 * wanted, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 5])
def test_nothing_supervised_gives_zero_that_is_still_connected(length):
    """A rank without a supervised token must still take part in the backward pass."""
    hidden = torch.randn(2, length, 8, requires_grad=True)
    for head in (nn.Linear(8, 17), nn.Sequential(nn.Linear(8, 17))):
        loss = summed_nll(hidden, torch.full((2, length), IGNORED), head)
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(hidden.grad, torch.zeros_like(hidden))
        for parameter in head.parameters():
            assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_the_first_label_is_never_a_target():
    hidden, head = torch.randn(1, 4, 8), nn.Linear(8, 17)
    labels = torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(
        summed_nll(hidden, labels, head), summed_nll(hidden, labels.index_fill(1, torch.tensor([0]), 9), head)
    )


@pytest.mark.parametrize("adapted", [False, True])
def test_logits_of_all_positions_never_exist(adapted):
    tokens, vocabulary, chunk, width = 400, 1000, 16, 8

    class Adapted(nn.Linear):
        """Not a plain matrix, so that the generic path runs."""

    head = (Adapted if adapted else nn.Linear)(width, vocabulary, bias=False)
    hidden = torch.randn(1, tokens + 1, width, requires_grad=True)
    labels = torch.randint(0, vocabulary, (1, tokens + 1))
    with LargestTensor() as largest:
        summed_nll(hidden, labels, head, chunk).backward()
    with LargestTensor() as naive:
        full_nll(hidden, labels, head).backward()
    assert largest.numel <= chunk * vocabulary
    assert naive.numel == tokens * vocabulary


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [40, 3000])
def test_half_precision_autocast_stays_close_to_full_precision(dtype, tokens):
    """Also for a confident head, whose gradients of logits hold probabilities below the smallest fp16 number."""
    torch.manual_seed(0)
    head = nn.Linear(16, 512, bias=False)
    hidden = torch.randn(1, tokens, 16, requires_grad=True)
    labels = torch.randint(0, 512, (1, tokens))
    wanted = full_nll(hidden, labels, head)
    exact = torch.autograd.grad(wanted, [hidden, head.weight])
    with torch.autocast("cpu", dtype=dtype):
        found = summed_nll(hidden, labels, head)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=3e-3, atol=0)
    for one, other in zip(torch.autograd.grad(found, [hidden, head.weight]), exact, strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < 2e-2


def test_fp16_gradients_keep_probabilities_that_fp16_itself_would_lose():
    """Of 100,000 equal logits each has probability 1e-5; without scaling fp16 keeps a few bits of it."""
    vocabulary = 100_000
    head = nn.Linear(4, vocabulary, bias=False).half()
    with torch.no_grad():
        head.weight.zero_()
    hidden = torch.ones(1, 2, 4, dtype=torch.float16)
    loss = summed_nll(hidden, torch.tensor([[0, 7]]), head)
    loss.backward()
    others = head.weight.grad[8:].float()
    torch.testing.assert_close(others, torch.full_like(others, 1 / vocabulary), rtol=1e-2, atol=0)


def test_only_functions_of_the_oldest_supported_torch_are_used():
    """The V100 pin is torch 2.10; `linear_cross_entropy` came with 2.13."""
    import ast
    import inspect

    import musician.model.loss as loss

    tree = ast.parse(inspect.getsource(loss))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "linear_cross_entropy" not in attributes
    assert "cross_entropy" in attributes
