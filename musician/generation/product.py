"""Matrix products of a network that writes: few rows, large frozen weights.

torch hands a product of 2 to 64 rows with `[out, in]` weights to a kernel that repacks the weights each time; packed
once, as torch's own compiler does where weights are frozen, 4 rows take hardly longer than one (docs/generation.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from musician.model import products

#: Maps `[tokens, in]` to `[tokens, out]`.
Product = Callable[[Tensor], Tensor]

#: Rows the packing is tuned for.
_ROWS = 16


def can_pack(weight: Tensor) -> bool:
    """Whether weights of this type on this device have a packed layout."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and products.has_onednn()


def called(*modules: Any) -> Product:
    """The modules one after the other, their outputs joined."""
    if len(modules) == 1:
        return modules[0]
    return lambda states: torch.cat([module(states) for module in modules], dim=-1)


def packed(*modules: Any) -> Product:
    """Linear modules without bias as one product with a packed copy of their weights, adapters folded in.

    The result for a row is, bit for bit, the same in any batch. Layers whose adapters are no plain LoRA are called, and
    those whose weights are rounded.
    """
    if any(getattr(module, "lora_variant", None) or not can_pack(module.weight) for module in modules):
        return called(*modules)
    weight = torch.cat([_weight(module).detach() for module in modules])
    layout = products.packed(weight, _ROWS)

    def product(states: Tensor) -> Tensor:
        # One row alone would go to another kernel, whose sums differ in the last bit.
        if states.shape[0] == 1:
            return products.by_onednn(torch.cat((states, states)), layout)[:1]
        return products.by_onednn(states, layout)

    return product


def _weight(module: nn.Module) -> Tensor:
    """Weight `[out, in]`; peft's layers and wrappers answer for what they wrap."""
    linear: Any = module
    weight: Tensor = linear.weight
    if getattr(linear, "merged", False) or getattr(linear, "disable_adapters", False):
        return weight
    for name in getattr(linear, "active_adapters", ()):
        if name in getattr(linear, "lora_A", ()):
            weight = weight + linear.get_delta_weight(name)
    return weight
