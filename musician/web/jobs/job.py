"""One answer: its request, its events, and when it must end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.sse import ServerSentEvent

from musician.data.rendering.conversation import Message
from musician.generation.sampling import Sampling
from musician.music.grammar import TuneConstraints
from musician.web.jobs.model import ServedModel
from musician.web.jobs.stop_strings import StopStrings


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to answer and how; `constraints` are those of the tune; the answer ends before any of the strings `stop`."""

    model: ServedModel
    messages: Sequence[Message]
    sampling: Sampling
    constraints: TuneConstraints | None = None
    stop: Sequence[str] = ()


class Job:
    """One answer; its events are `queued`, `start`, `text`, then `done` or `error` (docs/web.md has their data).

    Attributes:
        text: of the answer so far.
        tokens: generated so far.
        prompt_tokens: known once it is in the batch.
        handle: of the answer in the model's batch.
        position: in the queue, as reported last.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.text = ""
        self.tokens = self.prompt_tokens = self.handle = self.position = 0
        self._started = 0.0
        self._stop = StopStrings(request.stop)
        self._events: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        self._deadlines: list[tuple[float, str]] = []

    def send(self, name: str, **data: Any) -> None:
        """Send an event."""
        self._events.put_nowait(ServerSentEvent(event=name, data=data))

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the events, up to `done` or `error`."""
        while True:
            event = await self._events.get()
            yield event
            if event.event in ("done", "error"):
                return

    def start(self, seconds: float) -> None:
        """Start the clock; the answer may take so many seconds."""
        self._started = time.monotonic()
        self.end_within(seconds, "timeout")

    def end_within(self, seconds: float, reason: str) -> None:
        """End the answer in so many seconds, for this reason."""
        self._deadlines.append((time.monotonic() + seconds, reason))

    @property
    def end_reason(self) -> str:
        """Why the answer must end now: `stopped`, `timeout`, `end` at a stop string, or empty."""
        if self._stop.found:
            return "end"
        return next((reason for until, reason in self._deadlines if time.monotonic() >= until), "")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def write(self, piece: str, last: bool = False) -> None:
        """Send the next piece of the answer; `last`: nothing follows."""
        shown = self._stop.add(piece) + (self._stop.rest() if last else "")
        if shown:
            self.text += shown
            self.send("text", text=shown)
