"""Routes of the conversation: what can be set, and the answer as it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends

import musician
from musician.page.asking import Question, conversation, sampling, wishes
from musician.page.examples import examples
from musician.page.queue import Ask, Job
from musician.page.service import Service, service
from musician.page.streaming import EventStream, event_text

router = APIRouter(prefix="/api")
Here = Annotated[Service, Depends(service)]


class Generate(Question):
    """A question to a model."""

    model: str = "m0"


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
        "originality": False,
        "version": musician.__version__,
    }


@router.post("/generate")
async def generate(body: Generate, here: Here) -> EventStream:
    """Stream the answer to a conversation."""
    ask = Ask(here.model(body.model), *asked(body, here))
    job = here.submit(ask)
    return EventStream(_told(job), here.queue, job)


def asked(body: Question, here: Service) -> tuple[Any, Any, Any]:
    """The messages, the sampling and the wishes of a question."""
    messages = conversation(body.messages, here.limits)
    return messages, sampling(body.sampling, body.seed, here.preset, here.limits), wishes(body.constraint)


async def _told(job: Job) -> AsyncIterator[str]:
    async for told in job.events():
        yield event_text(told.name, told.data)
