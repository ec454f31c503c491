"""A task, and what a rule that makes one looks like."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from musician.music.abc.elements import Tune


@dataclass(frozen=True)
class Task:
    """One instruction and its answer; `name` is that of the rule that made it."""

    name: str
    prompt: str
    answer: str


#: Makes prompt and answer from a tune; None where the tune does not support the task.
Rule = Callable[[Tune, random.Random], tuple[str, str] | None]
