"""peft's LoRA linear layer as one autograd function: the same product, fewer copies.

peft computes `base(x) + lora_B(lora_A(dropout(x))) * scaling` of separate operations, each of which reads or writes a
whole activation and keeps one for the backward pass. Here the adapter's product is added inside the matrix product,
what is kept is the input, its `[tokens, r]` image and one byte a place for dropout, and the frozen weight gets no
gradient. Parameters, names, merging and saving stay peft's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

#: Dropout compares 16 random bits a place with this many steps of probability.
_STEPS = 1 << 16


class FusedLoraLinear(Linear):
    """A peft LoRA layer with one autograd function where the adapter is plain.

    Plain means: one active adapter, switched on and not merged, no variant such as DoRA, a frozen `nn.Linear` whole on
    this device (not partitioned by ZeRO-3), everything in one type without autocast. Otherwise peft's own forward runs.

    Dropout has peft's distribution (an own mask for each layer and call, from torch's generator) with the probability
    rounded to 1/65536, and other draws than peft's: equal seeds give equal runs, but not those of peft's forward.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map `[..., in_features]` to `[..., out_features]`."""
        if args or kwargs or not self._is_plain(x):
            return super().forward(x, *args, **kwargs)
        name, base = self.active_adapters[0], self.base_layer
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        dropout = self.lora_dropout[name]
        probability = dropout.p if isinstance(dropout, nn.Dropout) and self.training else 0.0
        keep, scaling = None, self.scaling[name]
        if probability:
            keep, probability = _kept_places(x, probability)
            scaling /= 1.0 - probability
        return _AdaptedProduct.apply(x, base.weight, base.bias, a, b, scaling, keep)

    def _is_plain(self, x: Tensor) -> bool:
        names = self.active_adapters
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] not in self.lora_A:
            return False
        base, a, b = self.base_layer, self.lora_A[names[0]], self.lora_B[names[0]]
        weights = (base.weight, a.weight, b.weight)
        return (
            not self.lora_variant
            and type(base) is nn.Linear
            and not any(parameter.requires_grad for parameter in base.parameters())
            and a.bias is b.bias is None
            and all(weight.ndim == 2 and weight.numel() and weight.dtype == x.dtype for weight in weights)
            and not torch.is_autocast_enabled(x.device.type)
        )


def fuse_lora(network: nn.Module) -> int:
    """Let every plain peft LoRA layer of a network compute as one function; returns how many there are."""
    layers = [module for module in network.modules() if type(module) is Linear]
    for layer in layers:
        layer.__class__ = FusedLoraLinear
    return len(layers)


def _kept_places(x: Tensor, probability: float) -> tuple[Tensor, float]:
    """Random boolean `[tokens, in_features]`, True where dropout keeps, and the exact probability of False.

    Four places share a 64-bit draw: a draw for each would cost 5 % of a training step on a CPU.
    """
    threshold = round(probability * _STEPS)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    bits = words.view(torch.int16)[: x.numel()].view(-1, x.shape[-1])
    return bits >= threshold - _STEPS // 2, threshold / _STEPS


class _AdaptedProduct(torch.autograd.Function):
    """`x W^T + bias + scaling (keep * x) A^T B^T`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float, keep: Any
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = (flat if keep is None else flat * keep) @ a.T
        out = nn.functional.linear(flat, weight, bias).addmm_(low, b.T, alpha=scaling)
        ctx.save_for_backward(flat, weight, a, b, low, keep)
        ctx.scaling = scaling
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        flat, weight, a, b, low, keep = ctx.saved_tensors
        grad = grad_outputs[0].reshape(-1, weight.shape[0])
        grad_low = (grad @ b).mul_(ctx.scaling)
        grad_a = grad_low.T @ (flat if keep is None else flat * keep)
        grad_b = (grad.T @ low).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            grad_x = grad_x.addmm_(grad_low, a) if keep is None else grad_x.add_((grad_low @ a).mul_(keep))
            grad_x = grad_x.view(*grad_outputs[0].shape[:-1], -1)
        return grad_x, None, None, grad_a, grad_b, None, None
