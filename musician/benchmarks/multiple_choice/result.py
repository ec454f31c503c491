"""The result of a benchmark of questions, all computed from its records."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from musician.benchmarks.benchmark import Result, Table
from musician.benchmarks.multiple_choice.question import LETTERS, Question, QuestionSet, Subset, by_subject
from musician.benchmarks.multiple_choice.records import PREDICTIONS, Record, read_records
from musician.benchmarks.statistics.estimate import Estimate, accuracy, macro, pooled_stderr
from musician.benchmarks.statistics.paired import mcnemar

logger = logging.getLogger(__name__)

#: With more subsets than this a table shows those of several subjects only; results.json holds them all.
MOST_SUBSETS = 8

#: Counts that make the figures less reliable, and what befell so many questions.
NOTES = {
    "non_finite": "gave scores that are not finite and count as wrong (overflow in half precision?)",
    "fallbacks": "were scored by four forwards: the tokenizer does not give each letter one id of its own",
    "ties": "were decided by the order of the letters: exact ties",
    "truncated": "did not fit the window even without examples and were cut from the left",
    "shots_dropped": "were shown fewer examples than asked for, to fit the window",
}

#: Columns of the table of changed answers.
CHANGED = ["benchmark", "subject", "index", "repeat", "gold", "before", "now", "stem"]


@dataclass(frozen=True)
class ChoiceResult(Result):
    """A result with the questions behind it.

    Attributes:
        questions: that were asked.
    """

    questions: Sequence[Question] = ()

    def changes(self, earlier: Path) -> tuple[str, Table] | None:
        """Return which answers changed, and whether gains and losses differ by more than chance (McNemar's test).

        Askings of one question are counted one by one here; `musician.compare` clusters them.
        """
        if not (earlier / PREDICTIONS).is_file():
            return None
        before = {_key(record): record.prediction for record in read_records(earlier / PREDICTIONS)}
        stems = {_key(question): question.stem for question in self.questions}
        found = [
            (record, before[_key(record)])
            for record in self.records[PREDICTIONS]
            if before.get(_key(record), record.prediction) != record.prediction
        ]
        gained = sum(record.prediction == record.gold for record, _ in found)
        lost = sum(previous == record.gold for record, previous in found)
        chance = mcnemar(lost, gained)
        line = f"{len(found)} answers changed: {gained} are right now, {lost} no longer (McNemar p={chance:.3g})"
        rows = [
            [self.benchmark, *_key(record), record.gold, previous, record.prediction, stems[_key(record)]]
            for record, previous in found
        ]
        return line, (CHANGED, rows)


def choice_result(
    benchmark: QuestionSet, records: Sequence[Record], rank: int, started: float, counts: Mapping[str, float]
) -> ChoiceResult:
    """Count what the records of all ranks contain; rank 0 logs a warning for what makes the figures less reliable.

    Args:
        benchmark: what was asked.
        records: in the order of its questions.
        rank: this process.
        started: `time.perf_counter()` of the start.
        counts: figures of the scorer.
    """
    counts = {
        "shots_dropped": sum(record.shots_kept < record.num_fewshot for record in records),
        "truncated": sum(record.truncated for record in records),
        **counts,
        "seconds": time.perf_counter() - started,
    }
    for name, sentence in NOTES.items() if rank == 0 else ():
        if counts.get(name):
            logger.warning("%s: %d of %d questions %s", benchmark.name, counts[name], len(records), sentence)
    estimates = subset_accuracies(records, benchmark.subsets)
    several = [subset.name for subset in benchmark.subsets if len(subset.subjects) > 1 and subset.name in estimates]
    return ChoiceResult(
        benchmark.name,
        estimates,
        counts=counts,
        headlines=(several or list(estimates)[-1:]) if len(estimates) > MOST_SUBSETS else (),
        chance=1 / len(LETTERS),
        records={PREDICTIONS: records},
        questions=benchmark.questions(),
    )


def subset_accuracies(records: Iterable[Record], subsets: Iterable[Subset]) -> dict[str, Estimate]:
    """Compute the accuracy of each subset that has records; `read_records` gives the same numbers again.

    The standard error of a micro mean over several subjects is pooled from theirs.
    """
    groups = by_subject(records)
    results = {}
    for subset in subsets:
        parts = [groups[subject] for subject in subset.subjects if subject in groups]
        if parts:
            estimates = [_accuracy(part) for part in parts]
            pooled = subset.average == "micro" and len(parts) > 1
            results[subset.name] = (
                replace(_accuracy(list(chain(*parts))), stderr=pooled_stderr(estimates)) if pooled else macro(estimates)
            )
    return results


def _accuracy(records: Sequence[Record]) -> Estimate:
    return accuracy([record.correct for record in records], [(record.subject, record.index) for record in records])


def _key(item: Record | Question) -> tuple[str, int, int]:
    return item.subject, item.index, item.repeat
