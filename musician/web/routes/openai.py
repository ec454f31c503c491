"""Routes for programs that speak OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from musician.web.guard import error_body
from musician.web.jobs.asking import Body, ConstraintBody, SamplingBody, Seed, Turn, conversation, sampling, wishes
from musician.web.jobs.job import Ask, Job, Told
from musician.web.jobs.streaming import EventStream
from musician.web.routes.chat import Here
from musician.web.service import Service

router = APIRouter(prefix="/v1")
_POLL_SECONDS = 0.2


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A turn as OpenAI writes it."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None


class StreamOptions(Body):
    """What a stream tells besides its text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


#: Clients write some settings out where they ask for nothing special; anything else would be ignored, and is refused.
Nothing = Annotated[float, Field(ge=0, le=0)] | None
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class Completion(Body):
    """What of OpenAI's request this server understands; `top_k`, `repetition_penalty` and `constraint` are ours."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Seed | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: Literal[1] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    presence_penalty: Nothing = None
    frequency_penalty: Nothing = None
    logprobs: Literal[False] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.5, le=2)] | None = None
    constraint: ConstraintBody | None = None


@router.get("/models")
def models(here: Here) -> dict[str, Any]:
    """The models by name."""
    data = [{"id": each.name, "object": "model", "created": 0, "owned_by": "musician"} for each in here.writers]
    return {"object": "list", "data": data}


@router.post("/chat/completions", response_model=None)
async def complete(body: Completion, here: Here, request: Request) -> Response:
    """Answer a conversation, whole or as a stream."""
    writer = here.model(body.model)
    job = here.submit(Ask(writer, *_asked(body, here), stops=_stops(body)))
    about = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": writer.name}
    if not body.stream:
        return await _whole(about, job, here, request)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return EventStream(_chunks(about, job, usage), lambda: here.queue.leave(job))


def _asked(body: Completion, here: Service) -> tuple[Any, Any, Any]:
    turns = [Turn(role=each.role, content=_text(each.content)) for each in body.messages]
    drawn = SamplingBody(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        repetition_penalty=body.repetition_penalty,
        max_new_tokens=body.max_completion_tokens or body.max_tokens,
    )
    settings = sampling(drawn, body.seed, here.preset, here.limits)
    return conversation(turns, here.limits), settings, wishes(body.constraint)


def _stops(body: Completion) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def _text(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


async def _whole(about: dict[str, Any], job: Job, here: Service, request: Request) -> Response:
    watch = asyncio.create_task(_leave_with(request, job, here))
    text, last = "", Told("error", {})
    try:
        async for last in job.events():
            text += last.data["text"] if last.name == "text" else ""
    finally:
        watch.cancel()
        here.queue.leave(job)
    if last.name == "error":
        raise HTTPException(last.data["status"], last.data["error"])
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(last)}
    return JSONResponse({**about, "object": "chat.completion", "choices": [choice], "usage": _usage(job)})


async def _leave_with(request: Request, job: Job, here: Service) -> None:
    """End the job when the connection closes."""
    while not await request.is_disconnected():
        await asyncio.sleep(_POLL_SECONDS)
    here.queue.leave(job)


async def _chunks(about: dict[str, Any], job: Job, usage: bool) -> AsyncIterator[str]:
    yield _chunk(about, {"role": "assistant", "content": ""})
    async for told in job.events():
        if told.name == "text":
            yield _chunk(about, {"content": told.data["text"]})
        elif told.name == "done":
            yield _chunk(about, {}, _finish(told))
        elif told.name == "error":
            yield f"data: {json.dumps(error_body('/v1/', told.data['status'], told.data['error']))}\n\n"
            return
    if usage:
        yield f"data: {json.dumps({**about, 'object': _CHUNK, 'choices': [], 'usage': _usage(job)})}\n\n"
    yield "data: [DONE]\n\n"


_CHUNK = "chat.completion.chunk"


def _chunk(about: dict[str, Any], delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return f"data: {json.dumps({**about, 'object': _CHUNK, 'choices': [choice]})}\n\n"


def _finish(told: Told) -> str:
    return "stop" if told.data["reason"] == "end" else "length"


def _usage(job: Job) -> dict[str, int]:
    prompt, new = job.prompt_tokens, job.tokens
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
