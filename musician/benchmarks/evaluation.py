"""The numbers of one benchmark run, all computed from its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from musician.benchmarks.multiple_choice.calibration import Calibration
from musician.benchmarks.multiple_choice.question import Benchmark, Subset
from musician.benchmarks.records import Record, prompt_hash
from musician.benchmarks.statistics.accuracy import Accuracy, accuracy, letter_histogram, macro, pooled_stderr


@dataclass(frozen=True)
class Evaluation:
    """What a benchmark run found, and the protocol it followed.

    Attributes:
        benchmark: its name.
        prompt_version: version of the prompt text.
        prompt_hash: changes with any scored prompt and with the set of questions.
        num_fewshot: examples the benchmark shows.
        bos: text of the special tokens in front of every prompt.
        num_questions: questions asked.
        accuracies: by subset name.
        ties: questions the order of the letters decided.
        fallbacks: questions scored by four forwards, because the tokenizer does not give the letters one id each.
        shots_dropped: questions shown fewer examples than `num_fewshot`, to fit the window.
        truncated: questions too long even without examples, cut from the left.
        non_finite: questions without a prediction, counted as wrong.
        letter_mass: mean probability on the four letters; None when not one question was scored by letter.
        predicted: how often each letter was predicted.
        gold: how often each letter was right.
        calibration: how well confidence fits accuracy; without numbers where there are too few questions.
        seconds: wall time on this rank.
    """

    benchmark: str
    prompt_version: int
    prompt_hash: str
    num_fewshot: int
    bos: str
    num_questions: int
    accuracies: Mapping[str, Accuracy]
    ties: int
    fallbacks: int
    shots_dropped: int
    truncated: int
    non_finite: int
    letter_mass: float | None
    predicted: Mapping[str, int]
    gold: Mapping[str, int]
    calibration: Calibration
    seconds: float

    @classmethod
    def of(
        cls,
        benchmark: Benchmark,
        records: Sequence[Record],
        accuracies: Mapping[str, Accuracy],
        bos: str,
        seconds: float,
    ) -> Evaluation:
        """Count what the records say."""
        masses = [record.letter_mass for record in records if record.letter_mass is not None]
        return cls(
            benchmark=benchmark.name,
            prompt_version=benchmark.version,
            prompt_hash=prompt_hash(records),
            num_fewshot=benchmark.num_fewshot,
            bos=bos,
            num_questions=len(records),
            accuracies=accuracies,
            ties=sum(record.tie for record in records),
            fallbacks=sum(record.method == "full" for record in records),
            shots_dropped=sum(record.shots_kept < record.num_fewshot for record in records),
            truncated=sum(record.truncated for record in records),
            non_finite=sum(record.prediction is None for record in records),
            letter_mass=sum(masses) / len(masses) if masses else None,
            predicted=letter_histogram(record.prediction for record in records),
            gold=letter_histogram(record.gold for record in records),
            calibration=Calibration.of(records),
            seconds=seconds,
        )

    def metrics(self) -> dict[str, float]:
        """Return the accuracies, 0 to 1, as `eval/<benchmark>/<subset>`: what belongs on a dashboard."""
        return {f"eval/{self.benchmark}/{name}": result.value for name, result in self.accuracies.items()}

    def details(self) -> dict[str, float]:
        """Return what a curve does not need, and a table does.

        `eval/<benchmark>/<subset>/{n,stderr,ci95_low,ci95_high}` for each subset, without those that are not defined
        (the error of a single question), and `eval/<benchmark>/<count>` for the counts, letter mass, calibration
        and seconds. `calibration_n` says how many questions calibration could use; below 300 its errors are left out.
        """
        root = f"eval/{self.benchmark}"
        values: dict[str, float] = {}
        for name, result in self.accuracies.items():
            parts = {"n": result.n, "stderr": result.stderr, "ci95_low": result.low, "ci95_high": result.high}
            values |= {f"{root}/{name}/{key}": value for key, value in parts.items() if not math.isnan(value)}
        for name in ("ties", "fallbacks", "shots_dropped", "truncated", "non_finite", "seconds"):
            values[f"{root}/{name}"] = getattr(self, name)
        if self.letter_mass is not None:
            values[f"{root}/letter_mass"] = self.letter_mass
        values |= {f"{root}/{name}": value for name, value in self.calibration.details().items()}
        return values

    def notes(self) -> list[str]:
        """Return one sentence for each thing that makes the numbers less than they look."""
        counted = (
            (self.non_finite, "gave scores that are not finite and count as wrong (overflow in half precision?)"),
            (self.truncated, "did not fit the window even without examples and were cut from the left"),
            (self.shots_dropped, f"were shown fewer than {self.num_fewshot} examples, to fit the window"),
            (self.fallbacks, "were scored by four forwards: the tokenizer does not give each letter one id of its own"),
            (self.ties, "were decided by the order of the letters: exact ties"),
        )
        return [f"{count} of {self.num_questions} questions {what}" for count, what in counted if count]


class Answered(Protocol):
    """What a subset's accuracy is computed from; the askings of one question share subject and index."""

    @property
    def subject(self) -> str:
        """Subject of the question."""
        ...

    @property
    def index(self) -> int:
        """Place of the question in its source."""
        ...

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        ...


def subset_accuracies(records: Iterable[Answered], subsets: Iterable[Subset]) -> dict[str, Accuracy]:
    """Compute the accuracy of each subset that has records; `read_records` gives the same numbers again.

    The standard error of a micro mean over several subjects is pooled from theirs.
    """
    by_subject: dict[str, list[Answered]] = {}
    for record in records:
        by_subject.setdefault(record.subject, []).append(record)
    results = {}
    for subset in subsets:
        parts = [by_subject[subject] for subject in subset.subjects if subject in by_subject]
        if parts:
            results[subset.name] = _mean([_accuracy(part) for part in parts], parts, subset)
    return results


def _mean(accuracies: Sequence[Accuracy], parts: Iterable[Iterable[Answered]], subset: Subset) -> Accuracy:
    if subset.average == "macro" or len(accuracies) == 1:
        return macro(accuracies)
    return replace(_accuracy(chain(*parts)), stderr=pooled_stderr(accuracies))


def _accuracy(records: Iterable[Answered]) -> Accuracy:
    answered = list(records)
    return accuracy([record.correct for record in answered], [(record.subject, record.index) for record in answered])
