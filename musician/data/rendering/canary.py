"""Prompts whose ids a checkpoint remembers, so that whoever serves it renders as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.runtime.errors import UserError

PROMPTS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Write a reel in D."),),
    (Message("user", "X:1\nM:6/8\nL:1/8\nK:G\nG2B d2g|"), Message("assistant", "|: GAB :|"), Message("user", " again")),
    (Message("system", "You write ABC."), Message("user", "</s> Assistant: hi")),
)


def canaries(renderer: Renderer) -> list[list[int]]:
    """Ids of a few fixed prompts, markup-like text and a second turn among them."""
    return [renderer.prompt_ids(messages) for messages in PROMPTS]


def check_canaries(renderer: Renderer, expected: Sequence[Sequence[int]] | Any, where: str) -> None:
    """Refuse to serve a checkpoint with prompts that differ from those it was trained on.

    Raises:
        UserError: the ids differ: another tokenizer or template.
    """
    if expected and [list(ids) for ids in expected] != canaries(renderer):
        raise UserError(
            f"checkpoint {where}: prompts would not be rendered as in training (template '{renderer.template.name}'); "
            "use the tokenizer and the model.renderer settings of the run"
        )
