"""Which questions a model answers otherwise than at an earlier evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from musician.benchmarks.multiple_choice.question import Question
from musician.benchmarks.records import Record
from musician.benchmarks.statistics.accuracy import mcnemar

_KEY = ("subject", "index", "repeat")


@dataclass(frozen=True, slots=True)
class Change:
    """A question with another answer than before.

    Attributes:
        benchmark: whose question it is.
        subject: its subject.
        index: its place in the source.
        repeat: which asking of it.
        gold: the right letter.
        before: the letter chosen then; None where a score was not finite.
        now: the letter chosen now.
        stem: the question.
    """

    benchmark: str
    subject: str
    index: int
    repeat: int
    gold: str
    before: str | None
    now: str | None
    stem: str


def changes(before: Sequence[Record], now: Sequence[Record], questions: Sequence[Question]) -> list[Change]:
    """Return the questions both asked whose answer is another now, in the order of `now`."""
    earlier = {_key(record): record for record in before}
    stems = {_key(question): question.stem for question in questions}
    return [
        Change(
            record.benchmark,
            record.subject,
            record.index,
            record.repeat,
            record.gold,
            earlier[_key(record)].prediction,
            record.prediction,
            stems.get(_key(record), ""),
        )
        for record in now
        if _key(record) in earlier and earlier[_key(record)].prediction != record.prediction
    ]


def describe(found: Sequence[Change]) -> str:
    """Say in a line what changed, and whether gains and losses differ by more than chance (McNemar's exact test).

    Askings of one question are counted one by one here; `musician.compare` clusters them.
    """
    gained = sum(change.now == change.gold for change in found)
    lost = sum(change.before == change.gold for change in found)
    chance = mcnemar(lost, gained)
    return f"{len(found)} answers changed: {gained} are right now, {lost} no longer (McNemar p={chance:.3g})"


def _key(item: Record | Question) -> tuple[object, ...]:
    return tuple(getattr(item, name) for name in _KEY)
