"""The answers under way: begun, carried on a step at a time, and ended, each for its own reason."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from musician.runtime.errors import UserError
from musician.web.jobs.job import Job, Told
from musician.web.jobs.writer import Writer, Written
from musician.web.metrics import Metrics

_log = logging.getLogger(__name__)
_FAILED = "the model failed on this; the server's log says why"

Ended = tuple[Job, Told]


class Desk:
    """Has the writers write; used by one thread. What ends is returned with what its job is to be told last.

    Args:
        metrics: counts what ends.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._jobs: dict[Writer, dict[int, Job]] = {}

    def begin(self, job: Job) -> Ended | None:
        """Take a job up; the end of it where it cannot be written."""
        ask = job.ask
        try:
            begun = ask.writer.begin(ask.messages, ask.sampling, ask.wishes)
        except Exception as error:
            return self._failed(job, error)
        job.prompt_tokens = begun.prompt_tokens
        self._jobs.setdefault(ask.writer, {})[begun.handle] = job
        job.tell("start", seed=ask.sampling.seed)
        return None

    def step(self) -> Iterator[Ended]:
        """Let every writer go on with its answers, but for those that must end now; yield what ended."""
        for writer in list(self._jobs):
            yield from self._ended_early(writer)
            yield from self._stepped(writer)
            if not self._jobs[writer]:
                del self._jobs[writer]

    def _ended_early(self, writer: Writer) -> Iterator[Ended]:
        for handle, job in list(self._jobs[writer].items()):
            if cause := job.cause:
                job.write(writer.cancel(handle), last=True)
                yield self._done(self._jobs[writer].pop(handle), cause)

    def _stepped(self, writer: Writer) -> Iterator[Ended]:
        jobs = self._jobs[writer]
        if not jobs:
            return
        try:
            every = writer.step()
        except Exception as error:
            for handle, job in jobs.items():
                writer.cancel(handle)
                yield self._failed(job, error)
            jobs.clear()
            return
        for written in every:
            job = jobs[written.handle]
            if ended := self._passed_on(job, written):
                del jobs[written.handle]
                yield ended

    def _passed_on(self, job: Job, written: Written) -> Ended | None:
        job.tokens += written.tokens
        if written.error:
            return self._failed(job, written.error)
        job.write(written.text, last=bool(written.end))
        return self._done(job, job.cause or written.end) if written.end else None

    def _done(self, job: Job, reason: str) -> Ended:
        self._count(job, reason)
        return job, Told("done", {"reason": reason, "tokens": job.tokens, "seconds": round(job.seconds, 3)})

    def _failed(self, job: Job, error: Exception) -> Ended:
        if isinstance(error, UserError):
            self._count(job, "refused")
            return job, Told("error", {"error": str(error), "status": 422})
        _log.error("an answer failed", exc_info=error)
        self._count(job, "failed")
        return job, Told("error", {"error": _FAILED, "status": 500})

    def _count(self, job: Job, reason: str) -> None:
        self._metrics.add("musician_answers_total", reason=reason)
        self._metrics.add("musician_tokens_total", job.tokens)
        self._metrics.add("musician_answer_seconds_total", job.seconds)
