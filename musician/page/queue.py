"""Answers in their turn: a bounded queue, worker threads, and jobs that tell an event loop how far they are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Any, NamedTuple

from musician.data.conversation import Message
from musician.errors import UserError
from musician.inference.sampling import Sampling
from musician.music.grammar import Wishes
from musician.page.metrics import Metrics
from musician.page.writer import Writer

_log = logging.getLogger(__name__)


class QueueFull(Exception):
    """So many wait that no more are taken."""


class QueueClosed(Exception):
    """The server is ending."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to answer, and how; `wishes` holds the answer to the grammar of tunes."""

    writer: Writer
    messages: Sequence[Message]
    sampling: Sampling
    wishes: Wishes | None = None


class Told(NamedTuple):
    """Something a job tells: `queued`, `start`, `text`, then `done` or `error`; see docs/page.md for their data."""

    name: str
    data: dict[str, Any]


class Job:
    """One answer on its way from a worker thread to the event loop that made it."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.tokens = self.prompt_tokens = self.position = 0
        self.ended_by = ""
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

    def end_by(self, seconds: float, cause: str) -> None:
        """End the answer in so many seconds, for this cause."""
        self._ends.append((time.monotonic() + seconds, cause))

    @property
    def cause(self) -> str:
        """Why the answer must end now: `stopped`, `timeout`, or empty."""
        if self._left.is_set():
            return "stopped"
        return next((cause for until, cause in self._ends if time.monotonic() >= until), "")

    def count_token(self) -> bool:
        """Count a token; True if it was the last that is wanted."""
        self.tokens += 1
        self.ended_by = self.cause
        return bool(self.ended_by)


class AnswerQueue:
    """Gives jobs to worker threads, first come first served.

    Args:
        waiting: how many may wait.
        seconds: how long an answer may take.
        metrics: counts what ends.
        workers: answers under way at a time; more than one only for writers that several threads may ask.
    """

    def __init__(self, waiting: int, seconds: float, metrics: Metrics, workers: int = 1) -> None:
        self.metrics = metrics
        self._most, self._seconds = waiting, seconds
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._work, name=f"answers-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs whose turn has not come."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._running)

    def submit(self, ask: Ask) -> Job:
        """Queue a job; from within an event loop.

        Raises:
            QueueFull: too many wait.
            QueueClosed: after `close`.
        """
        job = Job(ask)
        with self._changed:
            if self._closed:
                raise QueueClosed
            if len(self._waiting) >= self._most:
                raise QueueFull
            self._waiting.append(job)
            self._tell_positions()
            self._changed.notify()
        return job

    def leave(self, job: Job) -> None:
        """Take a job out, or end it after the token it is at."""
        job.leave()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._tell_positions()
                self.metrics.add("musician_answers_total", reason="stopped")
                job.tell("done", reason="stopped", tokens=0, seconds=0.0)

    def close(self, grace: float) -> None:
        """Take no more jobs, send those away that wait, and end running ones in `grace` seconds; does not wait."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.tell("error", error="the server is ending; ask again later", status=503)
            self._waiting.clear()
            for job in self._running:
                job.end_by(grace, "stopped")
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the workers after `close`."""
        for thread in self._threads:
            thread.join(seconds)

    def _tell_positions(self) -> None:
        free = len(self._threads) - len(self._running)
        for place, job in enumerate(self._waiting, 1 - free):
            if place > 0 and place != job.position:
                job.position = place
                job.tell("queued", position=place)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            last = self._answer(job)
            with self._changed:
                self._running.discard(job)
                self._tell_positions()
            job.tell(last.name, **last.data)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            self._running.add(job)
            job.end_by(self._seconds, "timeout")
            self._tell_positions()
            return job

    def _answer(self, job: Job) -> Told:
        """Write the answer and return what is to be told last."""
        began = time.monotonic()
        try:
            reason = self._write(job)
            last = Told("done", {"reason": reason, "tokens": job.tokens, "seconds": round(time.monotonic() - began, 3)})
        except UserError as error:
            reason, last = "refused", Told("error", {"error": str(error), "status": 422})
        except Exception:
            _log.exception("an answer failed")
            line = "the model failed on this; the server's log says why"
            reason, last = "failed", Told("error", {"error": line, "status": 500})
        self.metrics.add("musician_answers_total", reason=reason)
        self.metrics.add("musician_tokens_total", job.tokens)
        self.metrics.add("musician_answer_seconds_total", time.monotonic() - began)
        return last

    def _write(self, job: Job) -> str:
        """Write the answer and return why it ended: `end`, `length`, `stopped` or `timeout`."""
        ask = job.ask
        job.prompt_tokens = ask.writer.prompt_tokens(ask.messages, ask.sampling)
        job.tell("start", seed=ask.sampling.seed)
        for piece in ask.writer.write(ask.messages, ask.sampling, ask.wishes, job.count_token):
            job.tell("text", text=piece)
        return job.ended_by or ("length" if job.tokens >= ask.sampling.max_new_tokens else "end")
