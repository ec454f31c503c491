"""One line for each question asked: enough to recompute every reported number, and to compare two runs."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from musician.benchmarks.benchmark import record_files
from musician.benchmarks.multiple_choice.question import LETTERS, Question, QuestionSet
from musician.runtime.errors import UserError

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Record:
    """A question's result, as one line of `predictions.jsonl`.

    Attributes:
        num_fewshot: examples the benchmark shows.
        shots_kept: examples the window held.
        truncated: even without examples the prompt was cut, from the left.
        bos: text of the special tokens the tokenizer put in front; empty for a written answer.
        method: see `Scores.method`; `written` for a written answer.
        logprobs: see `Scores.logprobs`; None where a score is not finite; empty for a written answer.
        prediction: the letter chosen; None (it counts as wrong) when a score is not finite or no letter was read.
        prompt_sha256: of the UTF-8 text that was asked.
        prompt_style: see `musician.benchmarks.multiple_choice.prompts`.
        chat: the prompt was in a user's turn.
        repeat: which asking of the question this is, where its options are shuffled.
        order: which stored option was at each position.
        response: the written answer.
        read_by: kind of evidence for its letter; see `musician.benchmarks.multiple_choice.answers`.
    """

    benchmark: str
    subject: str
    index: int
    num_fewshot: int
    shots_kept: int
    truncated: bool
    method: str
    prediction: str | None
    gold: str
    num_tokens: int
    prompt_sha256: str
    prompt_version: int
    prompt_style: str = "opencompass"
    chat: bool = False
    repeat: int = 0
    order: tuple[int, ...] = (0, 1, 2, 3)
    bos: str = ""
    logprobs: tuple[float | None, ...] = ()
    letter_mass: float | None = None
    tie: bool = False
    response: str | None = None
    read_by: str | None = None

    @property
    def correct(self) -> bool:
        """Whether the prediction is the gold letter."""
        return self.prediction == self.gold


def record_of(benchmark: QuestionSet, question: Question, text: str, **answer: Any) -> Record:
    """Join what was asked with what the model answered.

    Args:
        benchmark: whose question it is.
        question: what was asked.
        text: the prompt.
        answer: the other fields of the record.
    """
    return Record(
        benchmark=benchmark.name,
        subject=question.subject,
        index=question.index,
        num_fewshot=benchmark.num_fewshot,
        gold=LETTERS[question.answer],
        prompt_sha256=sha256(text.encode()).hexdigest(),
        prompt_version=benchmark.version,
        prompt_style=benchmark.style,
        repeat=question.repeat,
        order=question.order,
        **answer,
    )


def read_records(path: Path) -> list[Record]:
    """Read a file of records.

    Raises:
        UserError: the file is missing, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"no predictions at {path}; evaluate with a records path first.") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            fields = json.loads(line)
            lists = {name: tuple(fields[name]) for name in ("logprobs", "order") if name in fields}
            records.append(Record(**{**fields, **lists}))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}:{number} is not a prediction record ({error}).") from error
    return records


def prediction_files(run: Path) -> list[Path]:
    """Return the prediction files of a run; none where there are none.

    Args:
        run: an output directory of `musician.eval`, a training run directory (its last evaluation counts), or one
            `predictions.jsonl`.
    """
    return [run] if run.is_file() else record_files(run, PREDICTIONS)


def read_run(run: Path) -> dict[str, list[Record]]:
    """Return the records of a run by benchmark; see `prediction_files` for what a run is.

    Raises:
        UserError: there are none.
    """
    files = prediction_files(run)
    if not files:
        what = f"holds no {PREDICTIONS}" if run.is_dir() else "does not exist"
        raise UserError(f"{run} {what}; give a directory that `python -m musician.eval` wrote, or a training run.")
    by_benchmark: dict[str, list[Record]] = {}
    for path in files:
        for record in read_records(path):
            by_benchmark.setdefault(record.benchmark, []).append(record)
    return by_benchmark
