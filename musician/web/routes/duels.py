"""Routes of blind comparison."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from musician.web.jobs.duels import Choice
from musician.web.routes.schemas import Body, Question
from musician.web.service import ServiceDep

router = APIRouter(prefix="/api/duels")


class Vote(Body):
    """Which answer is better."""

    choice: Choice


@router.post("")
async def begin(body: Question, service: ServiceDep) -> dict[str, str]:
    """Put a question to both models; which is a and which b is not revealed."""
    if len(service.models) < 2:
        raise HTTPException(404, "there is one model only; start the server with rival=PATH")
    return {"duel": service.duels.new(service.models, body.request(service.models[0], service))}


@router.post("/{name}/vote")
async def vote(name: str, body: Vote, service: ServiceDep) -> dict[str, str]:
    """Store a vote, and reveal which model was which."""
    models = service.duels.vote(name, body.choice)
    service.metrics.votes.labels(body.choice).inc()
    return models
