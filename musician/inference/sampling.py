"""How tokens are drawn, and text that transformers' `generate` writes after given ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from musician.data.render import Renderer


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; defaults are the original's, without its repetition penalty, which punishes music.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_k: of the likeliest so many.
        top_p: of the likeliest that together have this probability.
        repetition_penalty: 1 is none.
        max_new_tokens: stop after so many.
        seed: of the draws; the global random state is left alone.
    """

    temperature: float = 0.2
    top_k: int = 40
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    max_new_tokens: int = 512
    seed: int = 0


@torch.no_grad()
def continue_ids(
    network: Any, renderer: Renderer, prompt: Sequence[int], sampling: Sampling, as_answer: bool = False
) -> str:
    """Text after the given ids, up to the end-of-sequence token.

    Args:
        network: a causal LM in evaluation mode.
        renderer: decodes.
        prompt: ids so far.
        sampling: how to draw.
        as_answer: remove what the chat template writes around an answer.
    """
    device = next(network.parameters()).device
    ids = torch.tensor([list(prompt)], device=device)
    drawn: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        drawn = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
        }
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(sampling.seed)
        output = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sampling.max_new_tokens,
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=renderer.tokenizer.eos_token_id,
            pad_token_id=renderer.tokenizer.pad_token_id,
            use_cache=True,
            **drawn,
        )
    new = output[0, len(prompt) :].tolist()
    return renderer.read_answer(new) if as_answer else renderer.read_text(new)
