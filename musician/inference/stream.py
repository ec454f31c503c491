"""Text that a model writes, piece by piece, which can be stopped and held to the grammar of tunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from musician.data.conversation import Message
from musician.data.render import Renderer
from musician.inference.constraint import TuneConstraint, mask
from musician.inference.sampling import Sampling
from musician.model.network import cached_hidden_states, new_cache, output_head


def stream(
    network: Any,
    renderer: Renderer,
    messages: Sequence[Message],
    sampling: Sampling,
    constraint: TuneConstraint | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Yield the pieces of an answer as they are written; their concatenation is the answer.

    Closing the iterator ends the work at once. The same seed gives the same text, whatever was asked before.

    Args:
        network: a causal LM in evaluation mode.
        renderer: renders the prompt as in training.
        messages: the conversation; the last turn is the user's.
        sampling: how to draw.
        constraint: hold the answer to a tune; from `answer_constraint`.
        stopped: asked before each token; True ends the answer.

    Raises:
        UserError: the constraint cannot be met within `sampling.max_new_tokens`.
    """
    ids: list[int] = []
    shown = ""
    for token in tokens(network, renderer.prompt_ids(messages), sampling, renderer.tokenizer.eos_token_id, constraint):
        ids.append(token)
        text = renderer.read_answer(ids)
        # Half a character, or a blank that may turn out to be the template's, waits for the next token.
        if text.startswith(shown) and not text.endswith(("�", " ")):
            yield text[len(shown) :]
            shown = text
        if stopped():
            break
    rest = renderer.read_answer(ids)[len(shown) :]
    if rest:
        yield rest


def tokens(
    network: Any, prompt: Sequence[int], sampling: Sampling, eos: int, constraint: TuneConstraint | None = None
) -> Iterator[int]:
    """Yield the ids that follow a prompt, without the end-of-sequence token, at most `max_new_tokens`."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    head, cache = output_head(network), new_cache()
    written, fed = list(prompt), 0
    state = constraint.start() if constraint else None
    for left in range(sampling.max_new_tokens, 0, -1):
        fresh = torch.tensor([written[fed:]], device=device)
        places = torch.arange(fed, len(written), device=device)[None]
        with torch.no_grad():
            hidden = cached_hidden_states(network, fresh, places, cache)[0, -1]
            scores = head(hidden).float()
            if constraint and state:
                scores = mask(scores, constraint.allowed(state, left))
            token = draw(scores, written, sampling, generator)
        fed = len(written)
        if token == eos:
            return
        written.append(token)
        state = constraint.advance(state, token) if constraint and state else None
        yield token


def draw(scores: Tensor, written: Sequence[int], sampling: Sampling, generator: torch.Generator) -> int:
    """One id from scores `[vocabulary]`: penalty, temperature, top-k, top-p, in the order of transformers."""
    from transformers import (
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    row, ids = scores[None], torch.tensor([list(written)], device=scores.device)
    if sampling.repetition_penalty != 1:
        row = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, row)
    if sampling.temperature <= 0:
        return int(row.argmax())
    row = TemperatureLogitsWarper(float(sampling.temperature))(ids, row)
    if sampling.top_k:
        row = TopKLogitsWarper(sampling.top_k)(ids, row)
    if sampling.top_p < 1:
        row = TopPLogitsWarper(sampling.top_p)(ids, row)
    return int(torch.multinomial(row.softmax(-1)[0], 1, generator=generator))
