"""A causal language model: where it comes from, and how its body and head are reached."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def causal_lm(network: nn.Module) -> nn.Module:
    """Return the `transformers` causal LM inside `network`, which may be wrapped by peft."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network  # type: ignore[operator]


def hidden_states(network: nn.Module, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Run the body of the network without its head.

    Args:
        network: a causal LM, with or without a peft wrapper.
        input_ids: `[batch, length]`. Right padding needs no mask: attention is causal.
        position_ids: `[batch, length]`; where they restart at 0 a new document begins, and documents do not see one
            another. Isolation holds because no attention mask is passed and the cache is off (transformers only looks
            for restarts then).

    Returns:
        Final hidden states `[batch, length, hidden]`.
    """
    lm: Any = causal_lm(network)
    body = getattr(lm, lm.base_model_prefix)
    return body(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state


def output_head(network: nn.Module) -> nn.Module:
    """Return the module that maps hidden states `[..., hidden]` to logits `[..., vocabulary]`."""
    return causal_lm(network).get_output_embeddings()  # type: ignore[operator]
