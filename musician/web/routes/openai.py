"""Routes for programs that use OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import Field

from musician.web.errors import error_body
from musician.web.jobs.job import Job
from musician.web.routes import schemas
from musician.web.service import ServiceDep

router = APIRouter(prefix="/v1")
_POLL_SECONDS = 0.2


class TextPart(schemas.Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(schemas.Body):
    """A turn in OpenAI's form."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def turn(self) -> schemas.Turn:
        """Return the turn with the text of its parts joined."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        return schemas.Turn(role=self.role, content="".join(parts))


class StreamOptions(schemas.Body):
    """What a stream contains besides its text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


#: Clients send some settings where they ask for nothing special; any other value would be ignored, and is refused.
Nothing = Annotated[float, Field(ge=0, le=0)] | None
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class Completion(schemas.DrawingBody):
    """What of OpenAI's request this server knows; `top_k`, `repetition_penalty` and `constraint` are ours."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=schemas.MOST_TURNS)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: schemas.Seed | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: Literal[1] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    presence_penalty: Nothing = None
    frequency_penalty: Nothing = None
    logprobs: Literal[False] | None = None
    constraint: schemas.ConstraintBody | None = None

    def question(self) -> schemas.Question:
        """Return the question in the web app's own form."""
        drawing = self.model_dump(include=set(schemas.DrawingBody.model_fields))
        sampling = schemas.SamplingBody(**drawing, max_new_tokens=self.max_completion_tokens or self.max_tokens)
        turns = [message.turn() for message in self.messages]
        return schemas.Question(messages=turns, sampling=sampling, seed=self.seed, constraint=self.constraint)


@router.get("/models")
def models(service: ServiceDep) -> dict[str, Any]:
    """The models by name."""
    data = [{"id": each.name, "object": "model", "created": 0, "owned_by": "musician"} for each in service.models]
    return {"object": "list", "data": data}


async def _job(body: Completion, service: ServiceDep) -> AsyncIterator[Job]:
    """Submit the job; it ends at the latest with the connection."""
    request = body.question().request(service.model(body.model), service)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    with service.job(replace(request, stop=stop)) as job:
        yield job


@router.post("/chat/completions", response_model=None)
async def complete(
    body: Completion, service: ServiceDep, request: Request, job: Annotated[Job, Depends(_job)]
) -> Response:
    """Answer a conversation, as one object or as a stream."""
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": job.request.model.name,
    }
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventSourceResponse(_chunks(head, job, usage), headers={"x-accel-buffering": "no"})
    watch = asyncio.create_task(_leave_at_disconnect(request, job, service))
    try:
        *_, last = [event async for event in job.events()]
    finally:
        watch.cancel()
    if last.event == "error":
        raise HTTPException(last.data["status"], last.data["error"])
    message = {"role": "assistant", "content": job.text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(last.data)}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(job)})


async def _leave_at_disconnect(request: Request, job: Job, service: ServiceDep) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(_POLL_SECONDS)
    service.queue.leave(job)


async def _chunks(head: dict[str, Any], job: Job, usage: bool) -> AsyncIterator[bytes]:
    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _sse({**head, "object": "chat.completion.chunk", "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    async for event in job.events():
        if event.event == "text":
            yield chunk({"content": event.data["text"]})
        elif event.event == "done":
            yield chunk({}, _finish_reason(event.data))
        elif event.event == "error":
            yield _sse(error_body("/v1/", event.data["status"], event.data["error"]))
            return
    if usage:
        yield _sse({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(job)})
    yield format_sse_event(data_str="[DONE]")


def _sse(data: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(data))


def _finish_reason(done: dict[str, Any]) -> str:
    return "stop" if done["reason"] == "end" else "length"


def _usage(job: Job) -> dict[str, int]:
    prompt, new = job.prompt_tokens, job.tokens
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
