"""Counters of the page in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock

_HELP = {
    "musician_answers_total": "Answers that ended, by how.",
    "musician_refused_total": "Requests refused before any work, by status.",
    "musician_tokens_total": "Tokens written.",
    "musician_answer_seconds_total": "Seconds spent on answers.",
    "musician_votes_total": "Votes in blind comparisons.",
}


class Metrics:
    """Numbers that only grow; they hold nothing of what was said."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def add(self, name: str, amount: float = 1, **label: str) -> None:
        """Add to a counter, which may have one label."""
        labels = ",".join(f'{key}="{value}"' for key, value in label.items())
        with self._lock:
            self._counts[name, labels] += amount  # type: ignore[assignment]

    def text(self, gauges: Mapping[str, float]) -> str:
        """All counters, and gauges as they are now, in the text format (version 0.0.4)."""
        with self._lock:
            counts = sorted(self._counts.items())
        lines = []
        for name, about in _HELP.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
            lines += [f"{_series(*key)} {value:g}" for key, value in counts if key[0] == name]
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _series(name: str, labels: str) -> str:
    return f"{name}{{{labels}}}" if labels else name
