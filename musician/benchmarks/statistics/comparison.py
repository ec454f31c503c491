"""Two runs on the same questions: how much better the second is, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from musician.benchmarks.multiple_choice.calibration import Calibration
from musician.benchmarks.multiple_choice.mmlu import SUBJECTS, subsets
from musician.benchmarks.multiple_choice.question import Subset, subject_subsets
from musician.benchmarks.multiple_choice.records import Record, read_run
from musician.benchmarks.statistics.paired import SIGNIFICANT, Difference, Pair, difference
from musician.runtime.errors import UserError

#: What two runs must agree in on every question for their answers to be comparable.
PROTOCOL = {
    "repeat": "askings",
    "prompt_version": "prompt versions",
    "num_fewshot": "numbers of examples (num_fewshot)",
    "prompt_style": "prompt styles",
    "chat": "prompt forms (chat)",
    "shots_kept": "numbers of examples in the window (scorer.max_length)",
    "gold": "right answers",
    "prompt_sha256": "prompt hashes",
}

#: What may differ, and is noted.
NOTED = {"method": "scoring methods", "bos": "tokens in front"}

Item = tuple[str, int]


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
    pairs: dict[str, list[Pair]] = {}
    for item in items:
        _check_protocol(name, item, in_a[item], in_b[item])
        pair = Pair(_share(in_a[item]), _share(in_b[item]), len(in_a[item]))
        pairs.setdefault(item[0], []).append(pair)
    differences = {
        subset.name: difference(
            [pairs[subject] for subject in subset.subjects], subset.average == "macro", resamples, seed
        )
        for subset in subsets_of(name, list(pairs))
    }
    only_in_a, only_in_b = len(in_a) - len(items), len(in_b) - len(items)
    both = [[record for item in items for record in found[item]] for found in (in_a, in_b)]
    counted = ((only_in_a, "A"), (only_in_b, "B"))
    notes = [f"{count} questions are in {run} alone and left out" for count, run in counted if count]
    for field, words in NOTED.items():
        ours, theirs = (sorted({getattr(record, field) for record in records}) for records in both)
        notes += [f"{words} differ: A {ours}, B {theirs}"] if ours != theirs else []
    if len(differences) >= 10:
        chance = f"{len(differences) * SIGNIFICANT:.0f} would be called better by chance alone; name yours first"
        notes.append(f"of {len(differences)} subsets about {chance}")
    calibrations = Calibration.of(both[0]), Calibration.of(both[1])
    return Comparison(name, len(items), only_in_a, only_in_b, differences, *calibrations, notes)


def subsets_of(benchmark: str, subjects: Sequence[str]) -> tuple[Subset, ...]:
    """Return the subsets that records tell of: those of MMLU, else each subject and `all`."""
    if benchmark.split("_")[0] == "mmlu" and set(subjects) <= set(SUBJECTS):
        return subsets(sorted(subjects))
    return subject_subsets(sorted(subjects))


def _by_item(records: Sequence[Record]) -> dict[Item, list[Record]]:
    found: dict[Item, list[Record]] = {}
    for record in records:
        found.setdefault((record.subject, record.index), []).append(record)
    return found


def _share(records: Sequence[Record]) -> float:
    return sum(record.correct for record in records) / len(records)


def _check_protocol(name: str, item: Item, a: Sequence[Record], b: Sequence[Record]) -> None:
    """Refuse a question that was asked differently; the order of its askings does not matter."""
    for field, words in PROTOCOL.items():
        ours, theirs = (sorted(getattr(record, field) for record in records) for records in (a, b))
        if ours != theirs:
            found = " and ".join(f"{run} {', '.join(map(str, values))}" for run, values in (("A", ours), ("B", theirs)))
            raise UserError(
                f"compare: {name}: the {words} of question {item[0]} {item[1]} differ, {found}; evaluate both alike"
            )
