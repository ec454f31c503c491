"""Answers to many conversations, as benchmarks ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from musician.data.rendering.conversation import Message
from musician.generation.constraint import answer_constraint
from musician.generation.decoder import complete
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel


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
        model: LanguageModel,
        conversations: Sequence[Sequence[Message]],
        seeds: Sequence[int],
        on_written: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Return the answers, in order; so many at a time are written as a `Decoder` takes."""
        constraint = answer_constraint(model.renderer) if self.constrained else None
        prompts = [
            (model.renderer.prompt_ids(messages), replace(self.sampling, seed=seed))
            for messages, seed in zip(conversations, seeds, strict=True)
        ]
        answers: dict[int, str] = {}
        for number, ids in complete(prepare(model), prompts, model.tokenizer.eos_token_id, constraint):
            answers[number] = model.renderer.read_answer(ids)
            if on_written:
                on_written(len(answers))
        return [answers[number] for number in range(len(prompts))]
