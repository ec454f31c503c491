"""What the routes of the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import HTTPException, Request

from musician.generation.sampling import Sampling
from musician.web.jobs.duels import Duel, Duels
from musician.web.jobs.job import Ask, Job
from musician.web.jobs.queue import AnswerQueue, QueueClosed, QueueFull
from musician.web.jobs.writer import Writer
from musician.web.limits import Limits
from musician.web.metrics import Metrics
from musician.web.routes.originality import KnownTunes


@dataclass
class Service:
    """The models, what may be asked of them, and the queue before them.

    Attributes:
        writers: the models; a second one can be compared with the first.
        presets: named settings; the first is the default.
        limits: upper bounds.
        votes: where votes of comparisons are appended.
        known: tunes that a tune can be compared with.
    """

    writers: Sequence[Writer]
    presets: Mapping[str, Sampling]
    limits: Limits = field(default_factory=Limits)
    votes: Path = Path("votes.jsonl")
    known: KnownTunes | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.duels = Duels(self.limits.duels, self.votes)
        limits = self.limits
        self.queue = AnswerQueue(limits.waiting, limits.writing, limits.answer_seconds, self.metrics)

    @property
    def models(self) -> dict[str, Writer]:
        """The models by their ids."""
        return {f"m{place}": writer for place, writer in enumerate(self.writers)}

    @property
    def preset(self) -> Sampling:
        """The default settings."""
        return next(iter(self.presets.values()))

    def model(self, name: str) -> Writer:
        """Look a model up by id or name.

        Raises:
            HTTPException: there is none.
        """
        models = self.models
        known = {**{writer.name: writer for writer in models.values()}, **models}
        if name not in known:
            raise HTTPException(404, f"there is no model {name[:80]!r}; there are {', '.join(models)}")
        return known[name]

    def duel(self, name: str) -> Duel:
        """Look a duel up.

        Raises:
            HTTPException: there is none.
        """
        found = self.duels.find(name)
        if found is None:
            raise HTTPException(404, "there is no such duel; old ones are forgotten")
        return found

    def submit(self, ask: Ask) -> Job:
        """Queue an answer.

        Raises:
            HTTPException: too many wait, the server is ending, or the model cannot be held to a grammar.
        """
        if ask.wishes and not ask.writer.constrains:
            raise HTTPException(422, "constraint: this model's tokenizer cannot be held to the grammar")
        try:
            return self.queue.submit(ask)
        except QueueFull:
            self.metrics.add("musician_refused_total", status="429")
            raise HTTPException(429, f"{self.limits.waiting} others wait already; try again soon") from None
        except QueueClosed:
            raise HTTPException(503, "the server is ending; ask again later") from None


def service(request: Request) -> Service:
    """The service of the app that a request came to; a FastAPI dependency."""
    found: Service = request.app.state.service
    return found
