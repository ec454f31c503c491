"""Upper bounds on what visitors of the web app may ask."""

from __future__ import annotations

from dataclasses import dataclass

from musician.music.sound.limits import TuneLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(TuneLimits):
    """Upper bounds; each is checked before the work it bounds begins.

    Attributes:
        max_new_tokens: of one answer.
        max_prompt_chars: of one conversation.
        max_body_bytes: of a request.
        writing: answers decoded at a time, by all models together; each holds its keys and values in memory.
        waiting: requests that may wait in the queue; more are refused.
        answer_seconds: an answer that takes longer is ended.
        duels: comparisons that are remembered; the oldest are forgotten.
        grace_seconds: what running answers have left after a signal to end.
    """

    max_new_tokens: int = 2048
    max_prompt_chars: int = 20_000
    max_body_bytes: int = 262_144
    writing: int = 8
    waiting: int = 64
    answer_seconds: float = 300
    duels: int = 1_000
    grace_seconds: float = 10
