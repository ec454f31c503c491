"""Server-sent events from a job; a connection that closes ends it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from musician.page.queue import AnswerQueue, Job


class EventStream(StreamingResponse):
    """Sends a stream of events; however that ends, the job has left the queue and the model is free.

    Args:
        lines: the stream as text.
        queue: the job's.
        job: what is told.
    """

    def __init__(self, lines: AsyncIterator[str], queue: AnswerQueue, job: Job) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(lines, media_type="text/event-stream", headers=headers)
        self._queue, self._job = queue, job

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the events; Starlette cancels this when the connection closes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._queue.leave(self._job)


def event_text(name: str, data: dict[str, Any]) -> str:
    """One server-sent event; JSON keeps it on one line."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
