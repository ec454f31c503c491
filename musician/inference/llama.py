"""Llama's forward pass over ragged sequences with caches, in about ten operations a layer.

The same function as transformers' `LlamaForCausalLM` (5.x), of whose modules it takes the weights; a test compares the
scores. What is left out is what one token does not need: mask building, cache classes, hooks, a Python frame for each
module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from musician.inference.chunk import Chunk
from musician.inference.product import Product, called, can_pack, packed


def refusal(network: nn.Module) -> str | None:
    """Why `LlamaForward` cannot compute this network; None where it can."""
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


class LlamaForward:
    """A Llama over the new tokens of many sequences; see `musician.inference.chunk.Forward`.

    With packed weights the scores of a sequence are, bit for bit, independent of what else is in the batch.

    Args:
        network: `LlamaForCausalLM` in evaluation mode; its linear layers may be peft's.
        pack: copy fp32 weights on a CPU into a faster layout, query-key-value and gate-up as one; elsewhere the
            modules are called.
    """

    drafts = True

    def __init__(self, network: Any, pack: bool = False) -> None:
        config = network.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim
        self.epsilon = config.rms_norm_eps
        self.positions = int(config.max_position_embeddings)
        self.embed = network.model.embed_tokens
        self.norm = network.model.norm.weight
        weight = self.norm
        self.device, self.dtype = weight.device, weight.dtype
        fuse = packed if pack and can_pack(weight) else called
        self.head = fuse(network.lm_head)
        self.layers = [_Layer(layer, fuse) for layer in network.model.layers]
        self._rotary = network.model.rotary_emb
        self._cos, self._sin = self._tables(256)

    def new_cache(self, capacity: int) -> Tensor:
        """An empty cache `[layers, 2 (keys, values), key-value heads, capacity, width]`."""
        shape = (len(self.layers), 2, self.kv_heads, capacity, self.width)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def __call__(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Scores `[scored, vocabulary]` of each chunk, fp32."""
        sequences = [_Sequence(chunk, self.heads // self.kv_heads, self.dtype, self.device) for chunk in chunks]
        states = self.embed(torch.tensor([token for chunk in chunks for token in chunk.ids], device=self.device))
        cos, sin = self._rotation([place for one in sequences for place in range(one.start, one.end)])
        for number, layer in enumerate(self.layers):
            states = states + layer.output(self._attention(layer, number, states, cos, sin, sequences))
            normed = torch.rms_norm(states, states.shape[-1:], layer.after_norm, self.epsilon)
            gate, up = layer.gate_up(normed).chunk(2, dim=-1)
            states = states + layer.down(functional.silu(gate).mul_(up))
        ends = accumulate(len(chunk.ids) for chunk in chunks)
        wanted = [states[end - chunk.scored : end] for chunk, end in zip(chunks, ends, strict=True)]
        scored = torch.rms_norm(torch.cat(wanted), states.shape[-1:], self.norm, self.epsilon)
        return list(self.head(scored).float().split([chunk.scored for chunk in chunks]))

    def _attention(
        self, layer: _Layer, number: int, states: Tensor, cos: Tensor, sin: Tensor, sequences: list[_Sequence]
    ) -> Tensor:
        """Attention of one layer, `[tokens, width]` to `[tokens, heads * head width]`; keys and values are cached."""
        normed = torch.rms_norm(states, states.shape[-1:], layer.before_norm, self.epsilon)
        joined = layer.query_key_value(normed).view(len(states), -1, self.width)
        turned = joined[:, : self.heads + self.kv_heads]
        # cat(-second half, first half) of the published rotation is a roll whose sign is in the table.
        turned = torch.addcmul(turned * cos, turned.roll(self.width // 2, -1), sin)
        query, key, value = turned[:, : self.heads], turned[:, self.heads :], joined[:, self.heads + self.kv_heads :]
        fresh = torch.stack((key.transpose(0, 1), value.transpose(0, 1)))
        sizes = [sequence.new for sequence in sequences]
        parts = zip(sequences, query.split(sizes), fresh.split(sizes, 2), strict=True)
        return torch.cat([sequence.attend(number, part, both) for sequence, part, both in parts]).flatten(1)

    def _rotation(self, places: list[int]) -> tuple[Tensor, Tensor]:
        while max(places) >= len(self._cos):
            self._cos, self._sin = self._tables(2 * len(self._cos))
        chosen = torch.tensor(places, device=self.device)
        return self._cos[chosen], self._sin[chosen]

    def _tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines `[length, 1, width]` of positions, by the network's own module."""
        places = torch.arange(length, device=self.device)[None]
        cos, sin = self._rotary(torch.zeros(1, dtype=self.dtype, device=self.device), places)
        sign = torch.ones(self.width, dtype=self.dtype, device=self.device)
        sign[: self.width // 2] = -1
        return cos[0, :, None], (sin[0] * sign)[:, None]


class _Layer:
    """Weights of one layer."""

    def __init__(self, layer: Any, fuse: Callable[..., Product]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.query_key_value = fuse(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = fuse(attention.o_proj)
        self.gate_up = fuse(mlp.gate_proj, mlp.up_proj)
        self.down = fuse(mlp.down_proj)
        self.before_norm = layer.input_layernorm.weight
        self.after_norm = layer.post_attention_layernorm.weight


class _Sequence:
    """One sequence within a pass: where its tokens go, and what they see; the same in each layer."""

    def __init__(self, chunk: Chunk, groups: int, dtype: torch.dtype, device: torch.device) -> None:
        self.new, self.start, self.groups = len(chunk.ids), chunk.start, groups
        self.end = chunk.start + self.new
        self.fresh = chunk.cache[:, :, :, self.start : self.end].unbind()
        # for each layer [1, heads, length, width]
        self.keys, self.values = (part.split(1) for part in chunk.cache[:, :, :, : self.end].unbind(1))
        self.mask = None
        if self.start and self.new > 1:
            hidden = torch.full((self.new, self.end), float("-inf"), dtype=dtype, device=device)
            self.mask = hidden.triu_(self.start + 1).repeat(groups, 1)

    def attend(self, number: int, query: Tensor, fresh: Tensor) -> Tensor:
        """Cache keys and values `[2, kv heads, new, width]`; attention of `[new, heads, width]` in that shape."""
        self.fresh[number].copy_(fresh)
        keys, values, kernel = self.keys[number], self.values[number], functional.scaled_dot_product_attention
        if not self.start:
            mixed = kernel(query.transpose(0, 1)[None], keys, values, is_causal=True, enable_gqa=self.groups > 1)
            return mixed[0].transpose(0, 1)
        # Heads that share keys are laid end to end as so many more queries: no copy of the keys.
        new, heads, width = query.shape
        if new == 1:
            return kernel(query.view(1, -1, self.groups, width), keys, values).view(query.shape)
        grouped = query.view(new, -1, self.groups, width).permute(1, 2, 0, 3).reshape(1, -1, self.groups * new, width)
        mixed = kernel(grouped, keys, values, attn_mask=self.mask)
        return mixed.view(-1, self.groups, new, width).permute(2, 0, 1, 3).reshape(new, heads, width)
