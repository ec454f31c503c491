"""Answers in their turn: so many are written at a time, the others wait, and no more than may wait are taken."""

from __future__ import annotations

from collections import deque
from threading import Condition, Thread

from musician.web.jobs.desk import Desk, Ended
from musician.web.jobs.job import Ask, Job
from musician.web.metrics import Metrics


class QueueFull(Exception):
    """So many wait that no more are taken."""


class QueueClosed(Exception):
    """The server is ending."""


class AnswerQueue:
    """Gives jobs, first come first served, to the one thread that uses the models.

    Args:
        waiting: how many may wait.
        writing: how many are written at a time, by all models together.
        seconds: how long an answer may take.
        metrics: counts what ends.
    """

    def __init__(self, waiting: int, writing: int, seconds: float, metrics: Metrics) -> None:
        self.metrics = metrics
        self._most, self._at_once, self._seconds = waiting, writing, seconds
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs whose turn has not come."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether there is still a thread that writes."""
        return self._thread.is_alive()

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
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the thread after `close`."""
        self._thread.join(seconds)

    def _tell_positions(self) -> None:
        free = self._at_once - len(self._running)
        for place, job in enumerate(self._waiting, 1 - free):
            if place > 0 and place != job.position:
                job.position = place
                job.tell("queued", position=place)

    def _work(self) -> None:
        desk = Desk(self.metrics)
        while self._wait():
            while job := self._next():
                self._end(desk.begin(job))
            for ended in desk.step():
                self._end(ended)

    def _wait(self) -> bool:
        """Wait for something to do; False when nothing will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self._closed)
            return bool(self._waiting or self._running)

    def _next(self) -> Job | None:
        """The job whose turn it is, where there is room for it."""
        with self._changed:
            if not self._waiting or len(self._running) >= self._at_once:
                return None
            job = self._waiting.popleft()
            self._running.add(job)
            job.begin(self._seconds)
            self._tell_positions()
            return job

    def _end(self, ended: Ended | None) -> None:
        if ended is None:
            return
        job, last = ended
        with self._changed:
            self._running.discard(job)
            self._tell_positions()
        job.tell(last.name, **last.data)
