"""The network of a config without its weights: on the `meta` device, offline."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from musician.runtime.errors import UserError
from musician.runtime.pretrained import locate

#: Llama-2-7B (arXiv 2307.09288 and its public config.json); ChatMusician continues it.
LLAMA_2_7B: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}

_KNOWN = {name: LLAMA_2_7B for name in ("meta-llama/Llama-2-7b-hf", "m-a-p/ChatMusician-Base", "m-a-p/ChatMusician")}


def shape(node: dict[str, Any]) -> Any:
    """The transformers config of a `model.network` node; nothing is downloaded.

    Raises:
        UserError: a model that is neither local nor known.
    """
    from transformers import AutoConfig, LlamaConfig

    if "name_or_path" not in node:
        return LlamaConfig(**{key: value for key, value in node.items() if key in LLAMA_2_7B})
    name = node["name_or_path"]
    if name in _KNOWN:
        return LlamaConfig(**_KNOWN[name])
    try:
        return AutoConfig.from_pretrained(locate(name), local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"model {name}: its shape is not known here; set model.name_or_path to a directory") from error


def meta_network(config: Any, dtype: str) -> nn.Module:
    """Build a causal LM of this shape without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    network.config.use_cache = False
    network.train()
    return network
