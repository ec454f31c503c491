"""Weights in 8 or 4 bits for a network that only writes, by bitsandbytes (the extra `quantized`)."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from musician.model.network import output_head
from musician.runtime.errors import UserError, nearest

KINDS = ("int8", "nf4")
DEVICES = ("cpu", "cuda", "xpu")


def quantize(network: nn.Module, kind: str, device: str = "cpu") -> nn.Module:
    """Round the weights of all linear layers but the head, which is as good as the embedding, and move the network.

    A layer is rounded while it moves, so the device never holds the whole weights. Answers are a little different: an
    adapter must be folded in before.

    Args:
        network: a causal LM on the CPU, changed in place.
        kind: `int8` (a scale for each row, outliers apart) or `nf4` (4 bits, a scale for 64 weights; QLoRA's type).
        device: that the network is moved to.

    Raises:
        UserError: no such kind, bitsandbytes is not installed, or it does not know the device.
    """
    if kind not in KINDS:
        raise UserError(f"model.quantization={kind}: must be {' or '.join(KINDS)}{nearest(kind, KINDS)}")
    if torch.device(device).type not in DEVICES:
        raise UserError(f"model.quantization={kind}: not on {device}; bitsandbytes knows {', '.join(DEVICES)}")
    try:
        library = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UserError(
            f"model.quantization={kind}: bitsandbytes is not installed: pip install 'musician[quantized]'"
        ) from error
    head = output_head(network)
    linear = [
        (name, layer) for name, layer in network.named_modules() if type(layer) is nn.Linear and layer is not head
    ]
    for name, layer in linear:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, _rounded(library.nn, layer, kind).to(device))
    return network.to(device)


def _rounded(library: Any, layer: nn.Linear, kind: str) -> nn.Module:
    """The layer in bitsandbytes' form, which rounds when it is moved."""
    shape = (layer.in_features, layer.out_features, layer.bias is not None)
    if kind == "nf4":
        rounded = library.Linear4bit(*shape, compute_dtype=layer.weight.dtype, quant_type="nf4")
        rounded.weight = library.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=rounded)
    else:
        rounded = library.Linear8bitLt(*shape, has_fp16_weights=False)
        rounded.weight = library.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    rounded.bias = layer.bias
    return rounded
