"""What the routes of the web app share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from musician.generation.sampling import Sampling
from musician.web.jobs.duels import Duels
from musician.web.jobs.job import GenerationRequest, Job
from musician.web.jobs.model import ServedModel
from musician.web.jobs.queue import JobQueue
from musician.web.known_tunes import KnownTunes
from musician.web.limits import Limits
from musician.web.metrics import Metrics


@dataclass
class Service:
    """The models and the queue before them.

    Attributes:
        models: a second one can be compared with the first.
        presets: named settings; the first is the default.
        limits: upper bounds.
        votes: file to which votes of comparisons are appended.
        known: tunes that a tune can be compared with.
    """

    models: Sequence[ServedModel]
    presets: Mapping[str, Sampling]
    limits: Limits = field(default_factory=Limits)
    votes: Path = Path("votes.jsonl")
    known: KnownTunes | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.duels = Duels(self.limits.duels, self.votes)
        self.queue = JobQueue(self.limits, self.metrics)

    @property
    def models_by_id(self) -> dict[str, ServedModel]:
        """The models by the ids `m0`, `m1`."""
        return {f"m{number}": model for number, model in enumerate(self.models)}

    def model(self, name: str) -> ServedModel:
        """Look a model up by id or name.

        Raises:
            HTTPException: there is none.
        """
        known = {model.name: model for model in self.models} | self.models_by_id
        if name not in known:
            raise HTTPException(404, f"there is no model {name[:80]!r}; use one of {', '.join(self.models_by_id)}")
        return known[name]

    @contextmanager
    def job(self, request: GenerationRequest) -> Iterator[Job]:
        """Queue a request; the job ends at the latest with the block.

        Raises:
            HTTPException: too many wait, the server is ending, or the model's answers cannot be constrained.
        """
        if request.constraints and not request.model.constrains:
            raise HTTPException(422, "constraint: this model's tokenizer cannot be held to the grammar")
        job = self.queue.submit(request)
        try:
            yield job
        finally:
            self.queue.leave(job)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


#: Parameter of a route: the service of the application that was asked.
ServiceDep = Annotated[Service, Depends(_service)]
