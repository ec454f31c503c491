"""Routes of blind comparison."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from musician.web.jobs.asking import Body, Question
from musician.web.jobs.duels import Choice, DuelConflict
from musician.web.jobs.job import Ask
from musician.web.routes.chat import Here, asked

router = APIRouter(prefix="/api/duels")


class Vote(Body):
    """Which answer is better."""

    choice: Choice


@router.post("")
def begin(body: Question, here: Here) -> dict[str, str]:
    """Put a question to both models; which is a and which b is not told."""
    if len(here.writers) < 2:
        raise HTTPException(404, "there is one model only; start the server with rival=PATH")
    return {"duel": here.duels.new(here.writers, Ask(here.writers[0], *asked(body, here)))}


@router.post("/{name}/vote")
def vote(name: str, body: Vote, here: Here) -> dict[str, str]:
    """Write a vote down, and tell which model was which."""
    try:
        names = here.duels.vote(here.duel(name), body.choice)
    except DuelConflict as error:
        raise HTTPException(409, str(error)) from None
    here.metrics.add("musician_votes_total", choice=body.choice)
    return names
