"""Routes of the conversation: what can be set, and the answer as it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import Field

import musician
from musician.web.examples import examples
from musician.web.jobs.asking import MOST_TURNS, Question, Turn, conversation, sampling, wishes
from musician.web.jobs.duels import DuelConflict, Side
from musician.web.jobs.job import Ask, Job
from musician.web.jobs.streaming import EventStream, event_text
from musician.web.service import Service, service

router = APIRouter(prefix="/api")
Here = Annotated[Service, Depends(service)]


class Generate(Question):
    """A question to a model, or one side of a duel, whose question and settings are the duel's own."""

    messages: list[Turn] = Field(default_factory=list, max_length=MOST_TURNS)
    model: str = "m0"
    duel: str | None = None
    side: Side | None = None


@router.get("/setup")
def setup(here: Here) -> dict[str, Any]:
    """What the page needs to know before it draws itself."""
    limits = here.limits
    presets = {}
    for name, preset in here.presets.items():
        shown = {**asdict(preset), "max_new_tokens": min(preset.max_new_tokens, limits.max_new_tokens)}
        presets[name] = {key: value for key, value in shown.items() if key != "seed"}
    return {
        "models": [{"id": name, "name": writer.name} for name, writer in here.models.items()],
        "presets": presets,
        "examples": examples(),
        "limits": {key: getattr(limits, key) for key in ("max_new_tokens", "max_prompt_chars", "max_abc_chars")},
        "constraint": all(writer.constrains for writer in here.writers),
        "duel": len(here.writers) > 1,
        "originality": here.known is not None,
        "version": musician.__version__,
    }


@router.post("/generate")
async def generate(body: Generate, here: Here) -> EventStream:
    """Stream the answer to a conversation."""
    if body.duel is not None:
        return _side(here, body.duel, body.side)
    job = here.submit(Ask(here.model(body.model), *asked(body, here)))
    return EventStream(_told(job), lambda: here.queue.leave(job))


def _side(here: Service, name: str, side: Side | None) -> EventStream:
    """Stream one side of a duel, and keep the answer with it."""
    if side is None:
        raise HTTPException(422, "side: a or b")
    duel = here.duel(name)
    try:
        ask = duel.begin(side)
    except DuelConflict as error:
        raise HTTPException(409, str(error)) from None
    try:
        job = here.submit(ask)
    except HTTPException:
        duel.end(side, None)
        raise

    def closed() -> None:
        here.queue.leave(job)
        duel.end(side, None)

    return EventStream(_told(job, lambda text: duel.end(side, text)), closed)


def asked(body: Question, here: Service) -> tuple[Any, Any, Any]:
    """The messages, the sampling and the wishes of a question."""
    messages = conversation(body.messages, here.limits)
    return messages, sampling(body.sampling, body.seed, here.preset, here.limits), wishes(body.constraint)


async def _told(job: Job, answered: Callable[[str], None] = lambda text: None) -> AsyncIterator[str]:
    """Events as text; `answered` gets an answer that nobody stopped before the end of it is told."""
    pieces: list[str] = []
    async for told in job.events():
        pieces.append(told.data.get("text", ""))
        if told.name == "done" and told.data["reason"] != "stopped":
            answered("".join(pieces))
        yield event_text(told.name, told.data)
