"""Answers to many conversations, as benchmarks ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.constraint import answer_constraint
from musician.generation.decoder import complete
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling


class Answers:
    """Writes an answer to each conversation.

    Args:
        sampling: how to draw; each answer has its own seed.
        constrained: hold every answer to the grammar of tunes.
    """

    def __init__(self, sampling: Sampling, constrained: bool = False) -> None:
        self.sampling = sampling
        self.constrained = constrained

    def __call__(
        self,
        network: Any,
        renderer: Renderer,
        conversations: Sequence[Sequence[Message]],
        seeds: Sequence[int],
        on_written: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Return the answers, in order; so many at a time are written as a `Decoder` takes."""
        constraint = answer_constraint(renderer) if self.constrained else None
        prompts = [
            (renderer.prompt_ids(messages), replace(self.sampling, seed=seed))
            for messages, seed in zip(conversations, seeds, strict=True)
        ]
        answers: dict[int, str] = {}
        for number, ids in complete(prepare(network), prompts, renderer.tokenizer.eos_token_id, constraint):
            answers[number] = renderer.read_answer(ids)
            if on_written:
                on_written(len(answers))
        return [answers[number] for number in range(len(prompts))]
