"""Counters of the web app for Prometheus; they hold nothing of what visitors wrote."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """The counters and gauges of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter("musician_answers", "Answers that ended, by reason.", ["reason"], registry=registry)
        self.refused = Counter("musician_refused", "Requests answered with an error.", ["status"], registry=registry)
        self.tokens = Counter("musician_tokens", "Tokens generated.", registry=registry)
        self.seconds = Counter("musician_answer_seconds", "Seconds spent on answers.", registry=registry)
        self.votes = Counter("musician_votes", "Votes in blind comparisons.", ["choice"], registry=registry)
        self.waiting = Gauge("musician_answers_waiting", "Requests in the queue.", registry=registry)
        self.running = Gauge("musician_answers_running", "Answers in the batch.", registry=registry)
