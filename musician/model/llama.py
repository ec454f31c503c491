"""Which networks are Llamas that can be computed from their weights alone, without transformers' modules."""

from __future__ import annotations

from typing import Any

from torch import nn


def unlike_llama(network: nn.Module) -> str | None:
    """How a network differs from a `LlamaForCausalLM` of the usual form; None where it does not.

    The usual form: RMS norms, silu, no biases, whole weights, rotary positions that do not depend on the length.
    """
    from transformers import LlamaForCausalLM

    if type(network) is not LlamaForCausalLM:
        return "only LlamaForCausalLM is computed here"
    config: Any = network.config
    rope = config.rope_parameters["rope_type"]
    if rope not in ("default", "linear", "llama3"):
        return f"rotary positions of type {rope} depend on the length"
    if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
        return "biases or another activation than silu"
    if any(parameter.numel() == 0 for parameter in network.parameters()):
        return "its weights are partitioned over processes"
    return None
