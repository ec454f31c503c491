"""Server-sent events from a job; a connection that closes ends it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse


class EventStream(StreamingResponse):
    """Sends a stream of events; `closed` is called however that ends.

    Args:
        lines: the stream as text.
        closed: sets the model free.
    """

    def __init__(self, lines: AsyncIterator[str], closed: Callable[[], None]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(lines, media_type="text/event-stream", headers=headers)
        self._closed = closed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the events; Starlette cancels this when the connection closes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed()


def event_text(name: str, data: dict[str, Any]) -> str:
    """One server-sent event; JSON keeps it on one line."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
