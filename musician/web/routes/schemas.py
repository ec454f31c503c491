"""What clients send to have an answer generated, and its validation."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from musician.data.rendering.conversation import Conversation, Message, defect, read_row
from musician.music.grammar import TuneConstraints
from musician.web.jobs.job import GenerationRequest
from musician.web.jobs.model import ServedModel
from musician.web.service import Service

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


class DrawingBody(Body):
    """How tokens are drawn; what is left out is the first preset's."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=0, le=100_000)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.5, le=2)


class SamplingBody(DrawingBody):
    """How an answer is sampled."""

    max_new_tokens: int | None = Field(default=None, ge=1)


class ConstraintBody(Body):
    """Constraints of a tune; null leaves the choice to the model."""

    key: str | None = None
    meter: str | None = None
    unit: str | None = None
    bars: int | None = Field(default=None, le=1_000)
    sections: int | None = Field(default=None, le=100)
    repeats: bool | None = None
    voices: int = 1


class Question(Body):
    """A conversation to continue; seed null has one drawn."""

    messages: list[Turn] = Field(min_length=1, max_length=MOST_TURNS)
    sampling: SamplingBody = Field(default_factory=SamplingBody)
    seed: Seed | None = None
    constraint: ConstraintBody | None = None

    def request(self, model: ServedModel, service: Service) -> GenerationRequest:
        """Return the request to a model, over the settings of the first preset and within the limits.

        Raises:
            HTTPException: no conversation that ends with the user's turn, or more than the limits allow.
            UserError: text that is no Unicode, or a constraint that the grammar does not know.
        """
        limits, preset = service.limits, next(iter(service.presets.values()))
        messages = self._conversation(limits.max_prompt_chars)
        given = self.sampling.model_dump(exclude_none=True)
        if given.get("max_new_tokens", 1) > limits.max_new_tokens:
            raise HTTPException(422, f"sampling.max_new_tokens: at most {limits.max_new_tokens}")
        settings = {"max_new_tokens": min(preset.max_new_tokens, limits.max_new_tokens), **given}
        seed = secrets.randbelow(_LARGEST_SEED) if self.seed is None else self.seed
        constraints = TuneConstraints(**self.constraint.model_dump()) if self.constraint else None
        return GenerationRequest(model, messages, replace(preset, **settings, seed=seed), constraints)

    def _conversation(self, most: int) -> list[Message]:
        size = sum(len(turn.content) for turn in self.messages)
        if size > most:
            raise HTTPException(413, f"the conversation has {size} characters, at most {most}: begin a new one")
        row = read_row({"messages": [turn.model_dump() for turn in self.messages]})
        assert isinstance(row, Conversation)
        if not row.messages or row.messages[-1].role != "user":
            raise HTTPException(422, "messages: must end with the user's turn")
        if fault := defect(Conversation((*row.messages, Message("assistant", "answer")))):
            raise HTTPException(422, f"messages: {fault}")
        return list(row.messages)


class Abc(Body):
    """A text with a tune."""

    abc: str

    def text(self, service: Service) -> str:
        """Return the text.

        Raises:
            HTTPException: it is too long.
        """
        most = service.limits.max_abc_chars
        if len(self.abc) > most:
            raise HTTPException(413, f"the text has {len(self.abc)} characters, at most {most} are read")
        return self.abc
