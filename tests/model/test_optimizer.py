"""AdamW over exactly the trainable weights (B22, B30)."""

import pytest
import torch
from peft import get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from musician.model.optimizer import adamw, parameter_groups
from musician.runtime.errors import UserError

from .toys import lora, tiny_llama


class Weight(nn.Module):
    """One matrix and one vector."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[2.0, -3.0]]))
        self.vector = nn.Parameter(torch.tensor([5.0]))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(lambda: tiny_llama(), id="all"),
        pytest.param(lambda: tiny_llama(tie_word_embeddings=True), id="tied"),
        pytest.param(lambda: get_peft_model(tiny_llama(), lora()), id="LoRA"),
        pytest.param(lambda: get_peft_model(tiny_llama(), lora(modules_to_save=["lm_head", "norm"])), id="saved"),
    ],
)
def test_every_trainable_weight_is_updated_by_exactly_one_group(network):
    network = network()
    held = [id(p) for group in adamw(network, lr=1e-3).param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in network.parameters() if p.requires_grad}


def test_matrices_decay_and_vectors_do_not():
    network = tiny_llama()
    decayed, kept = parameter_groups(network, 0.3)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    norms = {id(p) for name, p in network.named_parameters() if "norm" in name}
    assert {id(p) for p in kept["params"]} == norms


def test_betas_eps_and_decay_are_the_ones_given():
    """B30: two steps against AdamW written out by hand."""
    network = Weight()
    lr, (b1, b2), eps, decay = 0.1, (0.7, 0.8), 0.5, 0.25
    optimizer = adamw(network, lr, (b1, b2), eps, decay)
    gradients = (torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 0.5]]))
    expected, m, v = network.matrix.detach().clone(), 0.0, 0.0
    vector, vm, vv = 5.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        network.matrix.grad, network.vector.grad = gradient.clone(), torch.tensor([4.0])
        optimizer.step()
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        expected = expected * (1 - lr * decay)
        expected = expected - lr * (m / (1 - b1**step)) / ((v / (1 - b2**step)).sqrt() + eps)
        vm, vv = b1 * vm + (1 - b1) * 4.0, b2 * vv + (1 - b2) * 16.0
        vector -= lr * (vm / (1 - b1**step)) / ((vv / (1 - b2**step)) ** 0.5 + eps)
    torch.testing.assert_close(network.matrix.detach(), expected)
    assert network.vector.item() == pytest.approx(vector, rel=1e-6)


def test_defaults_are_those_of_the_released_script():
    optimizer = adamw(Weight(), lr=1e-4)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert optimizer.param_groups[0]["eps"] == 1e-8
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_a_network_without_vectors_has_one_group():
    """LoRA trains matrices only, and DeepSpeed cannot partition an empty group."""
    assert len(adamw(get_peft_model(tiny_llama(), lora()), lr=1.0).param_groups) == 1


def test_a_matrix_that_zero_3_has_sharded_decays_all_the_same():
    """It is an empty vector then; DeepSpeed keeps its shape aside."""
    network = nn.Linear(3, 2)
    for parameter in network.parameters():
        parameter.ds_shape, parameter.data = parameter.shape, torch.empty(0)
    decayed, others = parameter_groups(network, 0.1)
    assert [len(p.ds_shape) for p in decayed["params"]] == [2]
    assert [len(p.ds_shape) for p in others["params"]] == [1]


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head", "norm"]}])
def test_lora_plus_gives_each_weight_the_rate_that_peft_gives_it(changes):
    network = get_peft_model(tiny_llama(), lora(**changes))
    theirs = create_loraplus_optimizer(network, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    rates = [
        {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (adamw(network, lr=1e-3, lr_ratio=16.0), theirs)
    ]
    assert rates[0] == rates[1]
    assert {1e-3, 16e-3} == set(rates[0].values())


def test_lora_plus_needs_lora():
    with pytest.raises(UserError, match="lr_ratio"):
        adamw(tiny_llama(), lr=1e-3, lr_ratio=4.0)
