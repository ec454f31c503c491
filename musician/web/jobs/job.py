"""One answer that was asked for, on its way from the thread that writes to the event loop that tells."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, NamedTuple

from musician.data.rendering.conversation import Message
from musician.generation.sampling import Sampling
from musician.music.grammar import Wishes
from musician.web.jobs.stops import StopText
from musician.web.jobs.writer import Writer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """What to answer, and how; `wishes` holds the answer to the grammar of tunes, before any of `stops` it ends."""

    writer: Writer
    messages: Sequence[Message]
    sampling: Sampling
    wishes: Wishes | None = None
    stops: tuple[str, ...] = ()


class Told(NamedTuple):
    """Something a job tells: `queued`, `start`, `text`, then `done` or `error`; see docs/web.md for their data."""

    name: str
    data: dict[str, Any]


class Job:
    """One answer; made within the event loop that is told of it."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.tokens = self.prompt_tokens = self.position = 0
        self._began = 0.0
        self._text = StopText(ask.stops)
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._left = Event()
        self._ends: list[tuple[float, str]] = []

    def tell(self, name: str, **data: Any) -> None:
        """Pass an event on; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._told.put_nowait, Told(name, data))
        except RuntimeError:
            _log.debug("nobody is there to be told")  # the loop is closed, and with it the connection

    async def events(self) -> AsyncIterator[Told]:
        """Yield what is told, up to `done` or `error`."""
        while True:
            told = await self._told.get()
            yield told
            if told.name in ("done", "error"):
                return

    def leave(self) -> None:
        """Say that nobody wants the answer any more; from any thread."""
        self._left.set()

    def begin(self, seconds: float) -> None:
        """Its turn has come; it may take so many seconds."""
        self._began = time.monotonic()
        self.end_by(seconds, "timeout")

    def end_by(self, seconds: float, cause: str) -> None:
        """End the answer in so many seconds, for this cause."""
        self._ends.append((time.monotonic() + seconds, cause))

    @property
    def cause(self) -> str:
        """Why the answer must end now: `stopped`, `timeout`, `end` at a text that stops it, or empty."""
        if self._text.ended:
            return "end"
        if self._left.is_set():
            return "stopped"
        return next((cause for until, cause in self._ends if time.monotonic() >= until), "")

    @property
    def seconds(self) -> float:
        """Since its turn came."""
        return time.monotonic() - self._began

    def write(self, text: str, last: bool = False) -> None:
        """Tell the next piece of the answer; `last`: nothing follows."""
        shown = self._text.add(text) + (self._text.rest() if last else "")
        if shown:
            self.tell("text", text=shown)
