"""One autograd function instead of peft's operations: the same numbers, names and files."""

import copy

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import Linear
from safetensors.torch import load_file

from musician.model.lora_linear import FusedLoraLinear, fuse_lora

from .toys import lora, tiny_llama, token_ids

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def pair(**changes):
    """peft's network and its fused copy."""
    torch.manual_seed(0)
    network = get_peft_model(tiny_llama(attention_bias=True), lora(PROJECTIONS, **changes))
    fused = copy.deepcopy(network)
    assert fuse_lora(fused) == 14
    return network, fused


def loss_and_gradients(network):
    ids = token_ids((2, 9))
    loss = network(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def assert_same(network, fused):
    (loss, gradients), (other, others) = loss_and_gradients(network), loss_and_gradients(fused)
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=0)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert gradient.norm() > 0
        assert (others[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("rank", [1, 4])
def test_loss_and_gradients_are_pefts(rank):
    assert_same(*pair(r=rank))


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"lora_bias": True}])
def test_what_is_not_plain_is_left_to_peft(changes):
    assert_same(*pair(**changes))


def test_dropout_takes_the_places_that_its_mask_names():
    """Against autograd over the written-out formula, with the mask drawn from the same state."""
    from musician.model.lora_linear import _kept_places

    layer = pair(lora_dropout=0.3)[1].get_base_model().model.layers[0].self_attn.q_proj
    x = torch.randn(1, 40, 16, requires_grad=True)
    torch.manual_seed(7)
    keep, probability = _kept_places(x, 0.3)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    wanted = layer.base_layer(x) + ((x * keep / (1 - probability)) @ a.T @ b.T) * layer.scaling["default"]
    torch.manual_seed(7)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    direction = torch.randn_like(wanted)
    for one, other in zip(
        *(torch.autograd.grad((y * direction).sum(), (x, a, b)) for y in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(probability):
    from musician.model.lora_linear import _kept_places

    torch.manual_seed(0)
    keep, exact = _kept_places(torch.empty(1000, 501), probability)
    assert keep.shape == (1000, 501)
    assert abs(exact - probability) < 1e-5
    assert abs((~keep).float().mean().item() - exact) < 5 * (exact * (1 - exact) / keep.numel()) ** 0.5


def test_dropout_repeats_with_the_seed_and_is_off_in_evaluation():
    network, fused = pair(lora_dropout=0.3)
    ids = token_ids((1, 9))

    def logits(seed):
        torch.manual_seed(seed)
        return fused(input_ids=ids, use_cache=False).logits

    assert torch.equal(logits(1), logits(1))
    assert not torch.allclose(logits(1), logits(2))
    fused.eval()
    torch.testing.assert_close(logits(1), network.eval()(input_ids=ids, use_cache=False).logits)


def test_peft_still_switches_off_saves_and_merges(tmp_path):
    network, fused = pair()
    ids = token_ids((1, 9))
    for name, one in (("a", network.eval()), ("b", fused.eval())):
        one.save_pretrained(tmp_path / name)
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in "ab"]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])
    assert network.state_dict().keys() == fused.state_dict().keys()
    with network.disable_adapter(), fused.disable_adapter():
        assert torch.equal(network(input_ids=ids).logits, fused(input_ids=ids).logits)
    adapted = fused(input_ids=ids).logits
    torch.testing.assert_close(fused.merge_and_unload()(input_ids=ids).logits, adapted, rtol=1e-4, atol=1e-4)


def test_a_copy_computes_with_its_own_weights():
    fused = pair()[1]
    other = copy.deepcopy(fused)
    layers = [n.get_base_model().model.layers[0].self_attn.q_proj for n in (fused, other)]
    assert [type(layer) for layer in layers] == [FusedLoraLinear] * 2
    assert isinstance(layers[0], Linear)
    with torch.no_grad():
        layers[1].lora_B["default"].weight.zero_()
    x = torch.randn(1, 3, 16)
    torch.testing.assert_close(layers[1](x), layers[1].base_layer(x))
    assert not torch.allclose(layers[0](x), layers[1](x))
