"""Llama's forward pass over ragged sequences with caches, in about ten operations a layer.

The same function as transformers' `LlamaForCausalLM` (5.x), of whose modules it takes the weights; a test compares the
scores. What is left out is what one token does not need: mask building, cache classes, hooks, a Python frame for each
module.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musician.generation.chunk import Chunk
from musician.lm.language_model import LanguageModel
from musician.model.network import causal_lm


class LlamaForward:
    """A Llama over the new tokens of many sequences; see `musician.generation.chunk.Forward`.

    Args:
        model: of a network that `unlike_llama` finds nothing against, in evaluation mode; its linear layers may be
            peft's.
    """

    drafts = True

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        network: Any = causal_lm(model.network)
        config = network.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim
        self.epsilon = config.rms_norm_eps
        self.positions = int(config.max_position_embeddings)
        self.embed = network.model.embed_tokens
        self.norm = network.model.norm
        weight = self.norm.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.head = network.lm_head
        self.layers = network.model.layers
        self._rotary = network.model.rotary_emb
        self._cos, self._sin = self._tables(256)

    def new_cache(self, capacity: int) -> Tensor:
        """An empty cache `[layers, 2 (keys, values), key-value heads, capacity, width]`."""
        shape = (len(self.layers), 2, self.kv_heads, capacity, self.width)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def __call__(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Scores `[scored, vocabulary]` of each chunk, fp32."""
        with self.model.autocast():
            return self._scores(chunks)

    def _scores(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        order = sorted(range(len(chunks)), key=lambda place: _kind(chunks[place]))
        batch = _Batch([chunks[place] for place in order], self)
        states = self.embed(torch.tensor(batch.ids, device=self.device))
        cos, sin = self._rotation(batch.places)
        for number, layer in enumerate(self.layers):
            mixed = self._attention(layer, number, states, cos, sin, batch)
            states = states + layer.self_attn.o_proj(mixed)
            normed = self._normed(states, layer.post_attention_layernorm)
            gate, up = layer.mlp.gate_proj(normed), layer.mlp.up_proj(normed)
            states = states + layer.mlp.down_proj(functional.silu(gate).mul_(up))
        found = self.head(self._normed(states[batch.wanted], self.norm)).float().split(batch.scored)
        return [found[place] for place in sorted(range(len(order)), key=order.__getitem__)]

    def _attention(self, layer: Any, number: int, states: Tensor, cos: Tensor, sin: Tensor, batch: _Batch) -> Tensor:
        """Attention of one layer, `[tokens, width]` to `[tokens, heads * head width]`; keys and values are cached."""
        normed, attention = self._normed(states, layer.input_layernorm), layer.self_attn
        projected = [module(normed) for module in (attention.q_proj, attention.k_proj, attention.v_proj)]
        joined = torch.cat(projected, dim=-1).view(len(states), -1, self.width)
        turned = joined[:, : self.heads + self.kv_heads]
        # cat(-second half, first half) of the published rotation is a roll whose sign is in the table.
        turned = torch.addcmul(turned * cos, turned.roll(self.width // 2, -1), sin)
        query, key, value = turned[:, : self.heads], turned[:, self.heads :], joined[:, self.heads + self.kv_heads :]
        batch.store(number, torch.stack((key.transpose(0, 1), value.transpose(0, 1))))
        return batch.attend(number, query)

    def _normed(self, states: Tensor, norm: Any) -> Tensor:
        return torch.rms_norm(states, states.shape[-1:], norm.weight, self.epsilon)

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


def unlike_llama(network: Any) -> str | None:
    """How a network differs from what `LlamaForward` computes; None where it does not.

    That is a `LlamaForCausalLM` with RMS norms, silu, no biases and rotary positions that do not depend on the length.
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


def _kind(chunk: Chunk) -> tuple[bool, int]:
    """Chunks of one kind are computed alike: whether the cache holds something, and how many tokens are new."""
    return chunk.start > 0, len(chunk.ids)


class _Batch:
    """The sequences of a pass, those of a kind together: where their tokens go; the same in each layer.

    Each sequence attends by itself, so that nothing in it depends on the others; what surrounds that is done for all.
    """

    def __init__(self, chunks: Sequence[Chunk], forward: LlamaForward) -> None:
        self.ids = [token for chunk in chunks for token in chunk.ids]
        self.places = [chunk.start + step for chunk in chunks for step in range(len(chunk.ids))]
        self.scored = [chunk.scored for chunk in chunks]
        ends = accumulate(len(chunk.ids) for chunk in chunks)
        rows = [row for chunk, end in zip(chunks, ends, strict=True) for row in range(end - chunk.scored, end)]
        self.wanted = slice(None) if len(rows) == len(self.ids) else torch.tensor(rows, device=forward.device)
        self._sizes = [len(chunk.ids) for chunk in chunks]
        spans = [chunk.cache[:, :, :, chunk.start : chunk.start + len(chunk.ids)].unbind() for chunk in chunks]
        self._fresh = list(zip(*spans, strict=True))
        self._groups = [_Group(list(members), forward) for _, members in groupby(chunks, _kind)]

    def store(self, number: int, fresh: Tensor) -> None:
        """Put a layer's keys and values `[2, key-value heads, tokens, width]` into the caches."""
        torch._foreach_copy_(self._fresh[number], fresh.split(self._sizes, 2))

    def attend(self, number: int, query: Tensor) -> Tensor:
        """Attention of a layer, `[tokens, heads, width]` to `[tokens, heads * width]`."""
        parts = query.split([group.tokens for group in self._groups])
        mixed = [group.attend(number, part) for group, part in zip(self._groups, parts, strict=True)]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


class _Group:
    """Sequences with equally many new tokens, which either all begin or all go on."""

    def __init__(self, chunks: Sequence[Chunk], forward: LlamaForward) -> None:
        self.new, self.begins = len(chunks[0].ids), not chunks[0].start
        self.tokens = len(chunks) * self.new
        self.kv_heads, self.groups = forward.kv_heads, forward.heads // forward.kv_heads
        seen = [chunk.cache[:, :, :, : chunk.start + self.new].unbind(1) for chunk in chunks]
        # for each layer, of each sequence [1, heads, length, width]
        self.keys = list(zip(*(keys.split(1) for keys, _ in seen), strict=True))
        self.values = list(zip(*(values.split(1) for _, values in seen), strict=True))
        self.masks = [self._mask(chunk, forward) for chunk in chunks]

    def _mask(self, chunk: Chunk, forward: LlamaForward) -> Tensor | None:
        """What the new tokens of a sequence that goes on must not see: one another backwards."""
        if self.begins or self.new == 1:
            return None
        shape = (self.new, chunk.start + self.new)
        hidden = torch.full(shape, float("-inf"), dtype=forward.dtype, device=forward.device)
        return hidden.triu_(chunk.start + 1).repeat(self.groups, 1)

    def attend(self, number: int, query: Tensor) -> Tensor:
        """Attention of a layer, `[tokens, heads, width]` to `[tokens, heads * width]`.

        Heads that share keys are laid end to end as so many more queries: no copy of the keys.
        """
        width = query.shape[-1]
        laid = query.view(-1, self.new, self.kv_heads, self.groups, width).permute(0, 2, 3, 1, 4)
        ones = laid.reshape(-1, self.kv_heads, self.groups * self.new, width).split(1)
        each = zip(ones, self.keys[number], self.values[number], self.masks, strict=True)
        mixed = torch.cat([self._kernel(*one) for one in each])
        mixed = mixed.view(-1, self.kv_heads, self.groups, self.new, width)
        return mixed.permute(0, 3, 1, 2, 4).reshape(self.tokens, -1)

    def _kernel(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        if not self.begins:
            return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        apart = query.view(1, -1, self.new, query.shape[-1])
        mixed = functional.scaled_dot_product_attention(apart, keys, values, is_causal=True, enable_gqa=self.groups > 1)
        return mixed.reshape(query.shape)
