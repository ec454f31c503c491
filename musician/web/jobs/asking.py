"""What a browser sends to have something written, and the check of it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from musician.data.rendering.conversation import Conversation, Message, defect, read_row
from musician.generation.sampling import Sampling
from musician.music.grammar import Wishes
from musician.web.limits import Limits

MOST_TURNS = 200
#: A torch generator takes seeds of 64 bits, JavaScript counts to 2^53.
_LARGEST_SEED = 2**53 - 1

Seed = Annotated[int, Field(ge=0, le=_LARGEST_SEED)]


class Body(BaseModel):
    """A request; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Turn(Body):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class SamplingBody(Body):
    """How tokens are drawn; what is left out is the first preset's."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=0, le=100_000)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.5, le=2)
    max_new_tokens: int | None = Field(default=None, ge=1)


class ConstraintBody(Body):
    """Wishes for a tune; null leaves the choice to the model."""

    key: str | None = None
    meter: str | None = None
    unit: str | None = None
    bars: int | None = Field(default=None, le=1_000)
    sections: int | None = Field(default=None, le=100)
    repeats: bool | None = None
    voices: int = 1


class Question(Body):
    """A conversation to go on with; seed null has one drawn."""

    messages: list[Turn] = Field(min_length=1, max_length=MOST_TURNS)
    sampling: SamplingBody = Field(default_factory=SamplingBody)
    seed: Seed | None = None
    constraint: ConstraintBody | None = None


def conversation(turns: list[Turn], limits: Limits) -> list[Message]:
    """Return the messages of a conversation that ends with the user's turn.

    Raises:
        HTTPException: it does not, turns do not alternate, or it is too long.
        UserError: text that is no Unicode.
    """
    size = sum(len(turn.content) for turn in turns)
    if size > limits.max_prompt_chars:
        most = limits.max_prompt_chars
        raise HTTPException(413, f"the conversation has {size} characters, at most {most} are read: begin a new one")
    row = read_row({"messages": [turn.model_dump() for turn in turns]})
    assert isinstance(row, Conversation)
    answered = Conversation((*row.messages, Message("assistant", "answer")))
    ended = bool(row.messages) and row.messages[-1].role == "user"
    fault = defect(answered) if ended else "must end with the user's turn"
    if fault:
        raise HTTPException(422, f"messages: {fault}")
    return list(row.messages)


def sampling(body: SamplingBody, seed: int | None, preset: Sampling, limits: Limits) -> Sampling:
    """Return the settings asked for over those of a preset, within the limits.

    Raises:
        HTTPException: more tokens than one answer may have.
    """
    given: dict[str, Any] = body.model_dump(exclude_none=True)
    if given.get("max_new_tokens", 1) > limits.max_new_tokens:
        raise HTTPException(422, f"sampling.max_new_tokens: at most {limits.max_new_tokens}")
    within = min(preset.max_new_tokens, limits.max_new_tokens)
    drawn = secrets.randbelow(_LARGEST_SEED) if seed is None else seed
    return replace(preset, **{"max_new_tokens": within, **given, "seed": drawn})


def wishes(body: ConstraintBody | None) -> Wishes | None:
    """Return the wishes asked for.

    Raises:
        UserError: a wish that the grammar does not know.
    """
    return None if body is None else Wishes(**body.model_dump())
