"""A bounded queue before the models: so many answers are decoded at a time, the others wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastapi import HTTPException

from musician.runtime.errors import UserError
from musician.web.jobs.job import GenerationRequest, Job
from musician.web.jobs.model import Piece, ServedModel
from musician.web.limits import Limits
from musician.web.metrics import Metrics

_log = logging.getLogger(__name__)
_FAILED = "the model failed on this request; the server's log says why"
_CLOSED = "the server is ending; ask again later"


class JobQueue:
    """Runs jobs, first come first served; used from one event loop.

    A task exists while there are jobs; it has every step of a model computed in a thread, one after the other.

    Args:
        limits: how many jobs wait, how many are decoded at a time, and for how long.
        metrics: counts the jobs.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        # One thread: torch and malloc keep memory for each thread that computes.
        self._executor = ThreadPoolExecutor(1, "decoding")
        metrics.waiting.set_function(lambda: len(self._waiting))
        metrics.running.set_function(lambda: self.running)

    @property
    def running(self) -> int:
        """Number of answers in the batch."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether decoding goes on; False after an error that was not one of an answer."""
        return self._task is None or not self._task.done() or self._task.exception() is None

    def submit(self, request: GenerationRequest) -> Job:
        """Queue a job.

        Raises:
            HTTPException: too many wait, or the server is ending.
        """
        if self._closed:
            raise HTTPException(503, _CLOSED)
        if len(self._waiting) >= self._limits.waiting:
            raise HTTPException(429, f"{self._limits.waiting} others wait already; try again soon")
        job = Job(request)
        self._waiting.append(job)
        self._send_positions()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return job

    def leave(self, job: Job) -> None:
        """Remove a job from the queue, or end it after the current step; one that has ended is left alone."""
        job.end_within(0, "stopped")
        if job in self._waiting:
            self._waiting.remove(job)
            self._send_positions()
            self._metrics.answers.labels("stopped").inc()
            job.send("done", reason="stopped", tokens=0, seconds=0.0)

    def close(self, grace: float) -> None:
        """Accept no more jobs, refuse those that wait, and end running ones in `grace` seconds."""
        self._closed = True
        for job in self._waiting:
            job.send("error", error=_CLOSED, status=503)
        self._waiting.clear()
        for job in self._running:
            job.end_within(grace, "stopped")

    def _send_positions(self) -> None:
        free = self._limits.writing - len(self._running)
        for position, job in enumerate(self._waiting, 1 - free):
            if position > 0 and position != job.position:
                job.position = position
                job.send("queued", position=position)

    async def _work(self) -> None:
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._limits.writing:
                await self._begin(self._waiting.popleft())
            for model in {job.request.model for job in self._running}:
                await self._step(model, {job.handle: job for job in self._running if job.request.model is model})

    async def _begin(self, job: Job) -> None:
        """Add a job to the batch."""
        self._running.add(job)
        self._send_positions()
        job.start(self._limits.answer_seconds)
        request = job.request
        begin = partial(request.model.begin, request.messages, request.sampling, request.constraints)
        try:
            job.handle, job.prompt_tokens = await asyncio.get_running_loop().run_in_executor(self._executor, begin)
        except Exception as error:
            self._fail(job, error)
        else:
            job.send("start", seed=request.sampling.seed)

    async def _step(self, model: ServedModel, jobs: dict[int, Job]) -> None:
        """End the jobs of one model whose time has come, and decode one step of the others."""
        for handle, job in list(jobs.items()):
            if reason := job.end_reason:
                job.write(model.cancel(handle), last=True)
                self._finish(jobs.pop(handle), reason)
        if not jobs:
            return
        try:
            pieces = await asyncio.get_running_loop().run_in_executor(self._executor, model.step)
        except Exception as error:
            for handle, job in jobs.items():
                model.cancel(handle)
                self._fail(job, error)
            return
        for piece in pieces:
            self._add(jobs[piece.handle], piece)

    def _add(self, job: Job, piece: Piece) -> None:
        job.tokens += piece.tokens
        if piece.error:
            self._fail(job, piece.error)
            return
        job.write(piece.text, last=bool(piece.end))
        if piece.end:
            self._finish(job, job.end_reason or piece.end)

    def _finish(self, job: Job, reason: str) -> None:
        self._remove(job, reason)
        job.send("done", reason=reason, tokens=job.tokens, seconds=round(job.seconds, 3))

    def _fail(self, job: Job, error: Exception) -> None:
        known = isinstance(error, UserError)
        if not known:
            _log.error("an answer failed", exc_info=error)
        self._remove(job, "refused" if known else "failed")
        job.send("error", error=str(error) if known else _FAILED, status=422 if known else 500)

    def _remove(self, job: Job, reason: str) -> None:
        self._metrics.answers.labels(reason).inc()
        self._metrics.tokens.inc(job.tokens)
        self._metrics.seconds.inc(job.seconds)
        self._running.discard(job)
        self._send_positions()
