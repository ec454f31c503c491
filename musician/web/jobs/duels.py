"""Two models compared blind: who wrote what is told after the vote, and the vote is kept as a preference."""

from __future__ import annotations

import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from musician.runtime.errors import UserError
from musician.web.jobs.job import Ask
from musician.web.jobs.writer import Writer

Side = Literal["a", "b"]
Choice = Literal["a", "b", "tie", "neither"]


class DuelConflict(Exception):
    """Something asked of a duel that cannot be now; the text says why."""


@dataclass
class Duel:
    """One question and the two models that answer it; `sides` says which, and is drawn by lot."""

    asks: Mapping[Side, Ask]
    answers: dict[Side, str] = field(default_factory=dict)
    writing: set[Side] = field(default_factory=set)
    voted: bool = False

    def begin(self, side: Side) -> Ask:
        """Take a side up to be written.

        Raises:
            DuelConflict: it is being written, or is there.
        """
        if side in self.writing or side in self.answers:
            raise DuelConflict(f"answer {side} is there or being written; a duel has one of each")
        self.writing.add(side)
        return self.asks[side]

    def end(self, side: Side, answer: str | None) -> None:
        """Keep an answer; None: it was not finished, and may be asked for again."""
        self.writing.discard(side)
        if answer is not None:
            self.answers[side] = answer


class Duels:
    """The duels of this process, and the file their votes go to.

    Args:
        most: how many are remembered; the oldest are forgotten.
        votes: JSON lines are appended to it.
    """

    def __init__(self, most: int, votes: Path) -> None:
        self._most, self._votes = most, votes
        self._duels: OrderedDict[str, Duel] = OrderedDict()
        self._lock = Lock()

    def new(self, writers: Sequence[Writer], ask: Ask) -> str:
        """Draw which of two models is side a, and return the new duel's id."""
        first, second = secrets.SystemRandom().sample(list(writers), 2)
        drawn = [(first, "a"), (second, "b")]
        asks: Any = {side: Ask(writer, ask.messages, ask.sampling, ask.wishes) for writer, side in drawn}
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._duels[name] = Duel(asks)
            if len(self._duels) > self._most:
                self._duels.popitem(last=False)
        return name

    def find(self, name: str) -> Duel | None:
        """Look a duel up."""
        return self._duels.get(name)

    def vote(self, duel: Duel, choice: Choice) -> dict[str, str]:
        """Write a vote down and return the names of both models.

        Raises:
            DuelConflict: an answer is missing, or there was a vote.
            UserError: the file cannot be written.
        """
        with self._lock:
            if duel.voted:
                raise DuelConflict("this duel has its vote")
            if len(duel.answers) < 2:
                raise DuelConflict("both answers must be there before the vote")
            self._append(preference(duel, choice))
            duel.voted = True
        return {side: ask.writer.name for side, ask in duel.asks.items()}

    def _append(self, row: dict[str, Any]) -> None:
        """Append one whole line, on disk before this returns."""
        try:
            self._votes.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._votes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, (json.dumps(row) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UserError(f"votes {self._votes}: cannot be written ({error.strerror})") from error


def preference(duel: Duel, choice: Choice) -> dict[str, Any]:
    """One row of preference data, in the conversational format of TRL's DPO.

    `chosen` and `rejected` are null after `tie` and `neither`; `answers` and `models` have both whatever was chosen.
    """
    one = duel.asks["a"]
    better: Side = "b" if choice == "b" else "a"
    worse: Side = "a" if choice == "b" else "b"
    decided = choice in ("a", "b")
    return {
        "prompt": [asdict(message) for message in one.messages],
        "chosen": _turn(duel.answers[better]) if decided else None,
        "rejected": _turn(duel.answers[worse]) if decided else None,
        "choice": choice,
        "answers": dict(sorted(duel.answers.items())),
        "models": {side: ask.writer.name for side, ask in duel.asks.items()},
        "sampling": {name: value for name, value in asdict(one.sampling).items() if name != "seed"},
        "seed": one.sampling.seed,
        "constraint": asdict(one.wishes) if one.wishes else None,
    }


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
