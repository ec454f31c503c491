"""Answers to many conversations, as benchmarks ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from musician.data.conversation import Message
from musician.data.render import Renderer
from musician.inference.constraint import answer_constraint
from musician.inference.sampling import Sampling
from musician.inference.stream import stream


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
        """Return the answers, in order."""
        constraint = answer_constraint(renderer) if self.constrained else None
        answers: list[str] = []
        for messages, seed in zip(conversations, seeds, strict=True):
            sampling = replace(self.sampling, seed=seed)
            answers.append("".join(stream(network, renderer, messages, sampling, constraint)))
            if on_written:
                on_written(len(answers))
        return answers
