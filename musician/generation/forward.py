"""How a network is run when it writes: a plain Llama with few operations a layer, any other by its own code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from musician.generation.chunk import Chunk, Forward
from musician.generation.llama_forward import LlamaForward, unlike_llama
from musician.lm.language_model import LanguageModel
from musician.model.network import causal_lm, new_cache


class ModuleForward:
    """Any causal LM by its own code, one sequence after the other.

    Args:
        model: in evaluation mode.
    """

    drafts = False

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.network: Any = causal_lm(model.network)
        config: Any = self.network.config
        self.positions = int(config.max_position_embeddings)
        self.device = model.device

    def new_cache(self, capacity: int) -> Any:
        """A cache that grows; the capacity is not needed."""
        return new_cache()

    @torch.no_grad()
    def __call__(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Scores `[scored, vocabulary]` of each chunk, fp32."""
        with self.model.autocast():
            return [self._scores(chunk) for chunk in chunks]

    def _scores(self, chunk: Chunk) -> Tensor:
        ids = torch.tensor([list(chunk.ids)], device=self.device)
        places = torch.arange(chunk.start, chunk.start + len(chunk.ids), device=self.device)[None]
        if chunk.cache.get_seq_length() > chunk.start:
            chunk.cache.crop(chunk.start)  # a pass that failed is made again
        # The class's own logits: some scale or cap what their head returns.
        out = self.network(
            input_ids=ids,
            position_ids=places,
            past_key_values=chunk.cache,
            use_cache=True,
            logits_to_keep=chunk.scored,
        )
        return out.logits[0, -chunk.scored :].float()


def prepare(model: LanguageModel) -> Forward:
    """Return the fastest forward pass for generation, compared with the network's own on a few tokens.

    A warning says where generation runs the network's own code, one sequence after another. Weights are not copied:
    training may go on, and the forward pass follows.

    Args:
        model: in evaluation mode.
    """
    lm: Any = causal_lm(model.network)
    own = ModuleForward(model)
    reason = unlike_llama(lm)
    if reason is None:
        fast = LlamaForward(model)
        reason = _difference(model, fast, own)
        if reason is None:
            return fast
    message = "generation with %s runs transformers' own code, one answer at a time: %s"
    logging.getLogger(__name__).warning(message, type(lm).__name__, reason)
    return own


def _difference(model: LanguageModel, fast: LlamaForward, own: ModuleForward) -> str | None:
    """How the scores of two sequences, a prompt and a token that follows, differ from the network's own, if they do."""
    prompts, following = ([5, 7, 11, 6], [9, 5]), ([8], [6, 10])
    scores = []
    for forward in (fast, own):
        caches = [forward.new_cache(8) for _ in prompts]
        begun = [Chunk(cache, ids, 0, len(ids)) for cache, ids in zip(caches, prompts, strict=True)]
        first = forward(begun)
        more = [Chunk(one.cache, ids, len(one.ids), len(ids)) for one, ids in zip(begun, following, strict=True)]
        scores.append(torch.cat(first + forward(more)))
    found, wanted = scores
    allowed = (1e-4 if model.precision.startswith("32") else 5e-2) * max(1.0, float(wanted.abs().max()))
    gap = float((found - wanted).abs().max())
    return None if gap <= allowed else f"the faster path has logits that differ by {gap:.3g}"
