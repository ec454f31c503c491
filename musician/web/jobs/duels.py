"""Two models compared blind: the vote reveals which model wrote which answer, and is stored as a preference."""

from __future__ import annotations

import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fastapi import HTTPException

from musician.runtime.errors import UserError
from musician.web.jobs.job import GenerationRequest
from musician.web.jobs.model import ServedModel

Side = Literal["a", "b"]
Choice = Literal["a", "b", "tie", "neither"]


@dataclass
class Duel:
    """One question to two models; which of them is side a is random."""

    requests: dict[Side, GenerationRequest]
    answers: dict[Side, str] = field(default_factory=dict)
    running: set[Side] = field(default_factory=set)
    voted: bool = False

    @contextmanager
    def run(self, side: Side) -> Iterator[GenerationRequest]:
        """Yield the request of a side while it is being answered.

        Raises:
            HTTPException: it is being answered, or has its answer.
        """
        if side in self.running or side in self.answers:
            raise HTTPException(409, f"answer {side} exists or is being written; a duel has one of each")
        self.running.add(side)
        try:
            yield self.requests[side]
        finally:
            self.running.discard(side)

    def preference(self, choice: Choice) -> dict[str, Any]:
        """Return the vote as a row of preference data, in the conversational format of TRL's DPO.

        `chosen` and `rejected` are null after `tie` and `neither`; `answers` and `models` have both in any case.
        """
        first = self.requests["a"]
        others: dict[str, Side] = {"a": "b", "b": "a"}
        sampling = asdict(first.sampling)
        return {
            "prompt": [asdict(message) for message in first.messages],
            "chosen": self._turn(choice),
            "rejected": self._turn(others.get(choice)),
            "choice": choice,
            "answers": dict(sorted(self.answers.items())),
            "models": self.models(),
            "sampling": {name: value for name, value in sampling.items() if name != "seed"},
            "seed": first.sampling.seed,
            "constraint": asdict(first.constraints) if first.constraints else None,
        }

    def _turn(self, side: str | None) -> list[dict[str, str]] | None:
        return None if side not in self.answers else [{"role": "assistant", "content": self.answers[side]}]

    def models(self) -> dict[str, str]:
        """Return the model's name by side."""
        return {side: request.model.name for side, request in sorted(self.requests.items())}


class Duels:
    """The duels of this process, and the file of their votes; used from one event loop.

    Args:
        most: how many are remembered; the oldest are forgotten.
        votes: JSON lines are appended to it.
    """

    def __init__(self, most: int, votes: Path) -> None:
        self._most, self._votes = most, votes
        self._duels: OrderedDict[str, Duel] = OrderedDict()

    def new(self, models: Sequence[ServedModel], request: GenerationRequest) -> str:
        """Put a request to two models in random order, and return the id of the duel."""
        a, b = secrets.SystemRandom().sample(models, 2)
        name = secrets.token_urlsafe(16)
        self._duels[name] = Duel({"a": replace(request, model=a), "b": replace(request, model=b)})
        if len(self._duels) > self._most:
            self._duels.popitem(last=False)
        return name

    def find(self, name: str) -> Duel:
        """Look a duel up.

        Raises:
            HTTPException: there is none.
        """
        if name not in self._duels:
            raise HTTPException(404, "there is no such duel; old ones are forgotten")
        return self._duels[name]

    def vote(self, name: str, choice: Choice) -> dict[str, str]:
        """Store a vote and return the names of both models.

        Raises:
            HTTPException: there is no such duel, an answer is missing, or there was a vote.
            UserError: the file cannot be written.
        """
        duel = self.find(name)
        if duel.voted:
            raise HTTPException(409, "this duel has its vote")
        if len(duel.answers) < 2:
            raise HTTPException(409, "both answers must exist before the vote")
        self._append(duel.preference(choice))
        duel.voted = True
        return duel.models()

    def _append(self, row: dict[str, Any]) -> None:
        """Append one line, on disk before this returns."""
        try:
            self._votes.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._votes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise UserError(f"votes {self._votes}: cannot be written ({error.strerror})") from error
