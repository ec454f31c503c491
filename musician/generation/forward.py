"""How a network is run when it writes: a plain Llama with few operations a layer, any other by its own code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from musician.generation.chunk import Chunk, Forward
from musician.generation.llama_forward import LlamaForward
from musician.model.llama import unlike_llama
from musician.model.network import cached_hidden_states, causal_lm, new_cache, output_head


class ModuleForward:
    """Any causal LM by its own code, one sequence after the other.

    Args:
        network: a causal LM in evaluation mode, with or without a peft wrapper.
    """

    drafts = False

    def __init__(self, network: Any) -> None:
        self.network = network
        self.head = output_head(network)
        config: Any = causal_lm(network).config
        self.positions = int(config.max_position_embeddings)
        self.device = next(network.parameters()).device

    def new_cache(self, capacity: int) -> Any:
        """A cache that grows; the capacity is not needed."""
        return new_cache()

    @torch.no_grad()
    def __call__(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Scores `[scored, vocabulary]` of each chunk, fp32."""
        return [self._scores(chunk) for chunk in chunks]

    def _scores(self, chunk: Chunk) -> Tensor:
        ids = torch.tensor([list(chunk.ids)], device=self.device)
        places = torch.arange(chunk.start, chunk.start + len(chunk.ids), device=self.device)[None]
        if chunk.cache.get_seq_length() > chunk.start:
            chunk.cache.crop(chunk.start)  # a pass that failed is made again
        hidden = cached_hidden_states(self.network, ids, places, chunk.cache)
        return self.head(hidden[0, -chunk.scored :]).float()


def prepare(network: Any) -> Forward:
    """The fastest way to write with a network whose weights no longer change.

    On a CPU in fp32 the weights of a Llama are copied into the layout of oneDNN, adapters folded in: that takes as much
    memory again while the network is kept, which is not needed afterwards.

    Args:
        network: a causal LM in evaluation mode, with or without a peft wrapper.
    """
    return forward_of(network, packed=True)


def forward_of(network: Any, packed: bool = False) -> Forward:
    """How a network is run; a warning says where that is the slow way.

    Args:
        network: a causal LM in evaluation mode, with or without a peft wrapper; a `Forward` is returned as it is.
        packed: copy the weights into a faster layout where there is one.
    """
    if not isinstance(network, torch.nn.Module):
        return network
    lm: Any = causal_lm(network)
    reason = unlike_llama(lm)
    if reason is None:
        return LlamaForward(lm, packed)
    message = "generation with %s runs transformers' own code, one answer at a time: %s"
    logging.getLogger(__name__).warning(message, type(lm).__name__, reason)
    return ModuleForward(network)
