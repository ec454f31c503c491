"""Two runs on the same questions: how much better the second is, and whether that is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from musician.benchmarks.multiple_choice.calibration import Calibration
from musician.benchmarks.multiple_choice.mmlu import SUBJECTS, subsets
from musician.benchmarks.multiple_choice.question import Subset, subject_subsets
from musician.benchmarks.multiple_choice.records import Record, read_run
from musician.benchmarks.statistics.estimate import Z95
from musician.benchmarks.statistics.paired import (
    SIGNIFICANT,
    Z80,
    mcnemar,
    minimum_detectable_effect,
    paired_bootstrap,
    sign_flip,
    stratified_stderr,
)
from musician.runtime.errors import UserError

#: What two runs must agree in for their answers to be comparable, and how to say it.
PROTOCOL = {
    "prompt_version": "prompt versions",
    "num_fewshot": "numbers of examples (num_fewshot)",
    "prompt_style": "prompt styles",
    "chat": "prompt forms (chat)",
}

Item = tuple[str, int]
Answers = Mapping[Item, Sequence[Record]]


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and how both runs did on it.

    Attributes:
        a: share of run A's answers that are right; 0 or 1 unless the question was asked several times.
        b: the same of run B.
        askings: how often it was asked.
    """

    subject: str
    index: int
    a: float
    b: float
    askings: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Run B against run A on one subset.

    Attributes:
        n: questions.
        a: accuracy of run A.
        b: accuracy of run B.
        low: lower end of the 95 % interval of `b - a`, by paired bootstrap; None where it is not defined.
        high: upper end.
        p_value: of the hypothesis that neither is better.
        test: `mcnemar` (exact), or `sign_flip` where questions differ in weight or were asked several times.
        only_a: questions on which A does better.
        only_b: questions on which B does better.
        detectable: the least true difference that such a comparison finds with a power of 80 %; None if not even 1.
    """

    n: int
    a: float
    b: float
    low: float | None
    high: float | None
    p_value: float
    test: str
    only_a: int
    only_b: int
    detectable: float | None

    @property
    def value(self) -> float:
        """Accuracy of B less that of A."""
        return self.b - self.a

    @property
    def separable(self) -> bool:
        """Whether the difference is more than noise: the interval leaves out 0 and the test rejects at 5 %."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= 0 <= self.high and self.p_value < SIGNIFICANT

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.only_a == self.only_b == 0:
            return "alike: equally right everywhere"
        if self.low is None:
            return "cannot be told: a subject of one question"
        if not self.separable:
            return "not separable from noise"
        return "B is better" if self.value > 0 else "A is better"


@dataclass(frozen=True)
class Comparison:
    """Both runs on one benchmark.

    Attributes:
        benchmark: its name.
        paired: questions in both.
        only_in_a: questions run A alone was asked; they are left out.
        only_in_b: the same of run B.
        differences: by subset name.
        calibration_a: of run A, on the questions in both.
        calibration_b: of run B.
        notes: one sentence for each thing a reader must know.
    """

    benchmark: str
    paired: int
    only_in_a: int
    only_in_b: int
    differences: Mapping[str, Difference]
    calibration_a: Calibration
    calibration_b: Calibration
    notes: Sequence[str]


def compare_runs(a: Path, b: Path, resamples: int = 10_000, seed: int = 0) -> list[Comparison]:
    """Compare two runs on every benchmark both have.

    Raises:
        UserError: they share none, or were asked differently.
    """
    in_a, in_b = read_run(a), read_run(b)
    shared = [name for name in in_a if name in in_b]
    if not shared:
        raise UserError(
            f"compare: no benchmark is in both runs: {a} has {sorted(in_a)}, {b} has {sorted(in_b)}; names differ "
            "where the number of examples or the prompt does."
        )
    return [compare(in_a[name], in_b[name], resamples, seed) for name in shared]


def compare(a: Sequence[Record], b: Sequence[Record], resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Compare the records of two runs of one benchmark; their order does not matter.

    Raises:
        UserError: no question is in both, or one in both was asked differently.
    """
    name = a[0].benchmark
    in_a, in_b = _by_item(a), _by_item(b)
    items = sorted(in_a.keys() & in_b.keys())
    if not items:
        raise UserError(f"compare: {name}: no question is in both runs.")
    both_a, both_b = ([record for item in items for record in found[item]] for found in (in_a, in_b))
    _check_protocol(name, both_a, both_b)
    _check_prompts(name, items, in_a, in_b)
    pairs: dict[str, list[Pair]] = {}
    for subject, index in items:
        ours, theirs = in_a[subject, index], in_b[subject, index]
        pair = Pair(subject, index, _share(ours), _share(theirs), len(ours))
        pairs.setdefault(subject, []).append(pair)
    differences = {
        subset.name: difference(
            [pairs[subject] for subject in subset.subjects], subset.average == "macro", resamples, seed
        )
        for subset in subsets_of(name, list(pairs))
    }
    only_in_a, only_in_b = len(in_a) - len(items), len(in_b) - len(items)
    notes = [*_missing(only_in_a, only_in_b), *_unlike(both_a, both_b), *_by_chance(len(differences))]
    calibrations = Calibration.of(both_a), Calibration.of(both_b)
    return Comparison(name, len(items), only_in_a, only_in_b, differences, *calibrations, notes)


def subsets_of(benchmark: str, subjects: Sequence[str]) -> tuple[Subset, ...]:
    """Return the subsets that records tell of: those of MMLU, else each subject and `all`."""
    if benchmark.split("_")[0] == "mmlu" and set(subjects) <= set(SUBJECTS):
        return subsets(sorted(subjects))
    return subject_subsets(sorted(subjects))


def difference(
    strata: Sequence[Sequence[Pair]], macro: bool = False, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Compare two runs on the pairs of some subjects.

    Args:
        strata: the pairs of each subject.
        macro: count each subject once, and resample within it; otherwise each question.
        resamples: of the bootstrap, and of the test where it is not exact.
        seed: of both.
    """
    parts = list(strata) if macro else [list(chain(*strata))]
    pairs = list(chain(*parts))
    gaps = [[pair.b - pair.a for pair in part] for part in parts]
    only_a, only_b = sum(pair.a > pair.b for pair in pairs), sum(pair.b > pair.a for pair in pairs)
    if len(parts) == 1 and all(pair.askings == 1 for pair in pairs):
        test, p_value = "mcnemar", mcnemar(only_a, only_b)
        detectable = minimum_detectable_effect(len(pairs), (only_a + only_b) / len(pairs))
    else:
        weighted = [gap / len(part) for part in gaps for gap in part]
        test, p_value = "sign_flip", sign_flip(weighted, resamples, seed)
        detectable = _defined((Z95 + Z80) * stratified_stderr(gaps)) or None
    low, high = paired_bootstrap(gaps, resamples, seed)
    return Difference(
        n=len(pairs),
        a=math.fsum(math.fsum(pair.a for pair in part) / len(part) for part in parts) / len(parts),
        b=math.fsum(math.fsum(pair.b for pair in part) / len(part) for part in parts) / len(parts),
        low=_defined(low),
        high=_defined(high),
        p_value=p_value,
        test=test,
        only_a=only_a,
        only_b=only_b,
        detectable=detectable,
    )


def _by_item(records: Sequence[Record]) -> dict[Item, list[Record]]:
    found: dict[Item, list[Record]] = {}
    for record in records:
        found.setdefault((record.subject, record.index), []).append(record)
    return found


def _share(records: Sequence[Record]) -> float:
    return sum(record.correct for record in records) / len(records)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _check_protocol(name: str, a: Sequence[Record], b: Sequence[Record]) -> None:
    for field, words in PROTOCOL.items():
        found = [sorted({getattr(record, field) for record in records}) for records in (a, b)]
        if found[0] != found[1] or len(found[0]) > 1:
            ours, theirs = (", ".join(map(str, values)) for values in found)
            raise UserError(f"compare: {name}: the {words} differ, A {ours} and B {theirs}; evaluate both alike.")


def _check_prompts(name: str, items: Sequence[Item], a: Answers, b: Answers) -> None:
    unlike = [item for item in items if _asked(a[item]) != _asked(b[item])]
    if unlike:
        subject, index = unlike[0]
        raise UserError(
            f"compare: {name}: {len(unlike)} of {len(items)} questions were asked differently, the first is {subject} "
            f"{index}: {_reason(a[unlike[0]], b[unlike[0]])}."
        )


def _asked(records: Sequence[Record]) -> list[tuple[str, str]]:
    return sorted((record.prompt_sha256, record.gold) for record in records)


def _reason(a: Sequence[Record], b: Sequence[Record]) -> str:
    if len(a) != len(b):
        return f"A was asked {len(a)} times, B {len(b)}"
    if a[0].shots_kept != b[0].shots_kept:
        return f"A saw {a[0].shots_kept} examples, B {b[0].shots_kept}; give both the smaller scorer.max_length"
    if {record.prompt_sha256 for record in a} == {record.prompt_sha256 for record in b}:
        return "the right answers differ"
    return "the prompt hashes differ"


def _missing(only_in_a: int, only_in_b: int) -> list[str]:
    counted = (only_in_a, "A"), (only_in_b, "B")
    return [f"{count} questions are in {run} alone and left out" for count, run in counted if count]


def _unlike(a: Sequence[Record], b: Sequence[Record]) -> list[str]:
    words = {"method": "scoring methods", "bos": "tokens in front"}
    found = [(name, [sorted({getattr(record, name) for record in records}) for records in (a, b)]) for name in words]
    return [f"{words[name]} differ: A {ours}, B {theirs}" for name, (ours, theirs) in found if ours != theirs]


def _by_chance(count: int) -> list[str]:
    if count < 10:
        return []
    return [
        f"of {count} subsets about {count * SIGNIFICANT:.0f} would be called better by chance alone; name yours first"
    ]
