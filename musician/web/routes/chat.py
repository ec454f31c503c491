"""Routes of the conversation: the settings, and the answer as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

import musician
from musician.web.examples import examples
from musician.web.jobs.duels import Side
from musician.web.jobs.job import Job
from musician.web.routes.schemas import MOST_TURNS, Question, Turn
from musician.web.service import ServiceDep

router = APIRouter(prefix="/api")


class Generate(Question):
    """A question to a model, or one side of a duel, whose question and settings are the duel's own."""

    messages: list[Turn] = Field(default_factory=list, max_length=MOST_TURNS)
    model: str = "m0"
    duel: str | None = None
    side: Side | None = None


@router.get("/setup")
def setup(service: ServiceDep) -> dict[str, Any]:
    """What the web app needs to know before it draws itself."""
    limits = service.limits
    presets = {}
    for name, preset in service.presets.items():
        shown = {**asdict(preset), "max_new_tokens": min(preset.max_new_tokens, limits.max_new_tokens)}
        presets[name] = {key: value for key, value in shown.items() if key != "seed"}
    return {
        "models": [{"id": name, "name": model.name} for name, model in service.models_by_id.items()],
        "presets": presets,
        "examples": examples(),
        "limits": {key: getattr(limits, key) for key in ("max_new_tokens", "max_prompt_chars", "max_abc_chars")},
        "constraint": all(model.constrains for model in service.models),
        "duel": len(service.models) > 1,
        "originality": service.known is not None,
        "version": musician.__version__,
    }


async def _job(body: Generate, service: ServiceDep) -> AsyncIterator[Job]:
    """Submit the job; it ends at the latest with the connection."""
    with ExitStack() as stack:
        if body.duel is None:
            request = body.request(service.model(body.model), service)
        elif body.side is None:
            raise HTTPException(422, "side: a or b")
        else:
            request = stack.enter_context(service.duels.find(body.duel).run(body.side))
        yield stack.enter_context(service.job(request))


@router.post("/generate", response_class=EventSourceResponse)
async def generate(
    body: Generate, service: ServiceDep, job: Annotated[Job, Depends(_job)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream the answer to a conversation; a duel keeps one that nobody stopped."""
    async for event in job.events():
        if body.duel and body.side and event.event == "done" and event.data["reason"] != "stopped":
            service.duels.find(body.duel).answers[body.side] = job.text
        yield event
