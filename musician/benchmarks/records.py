"""One line for each question asked: enough to recompute every reported number, and to compare two runs."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from musician.benchmarks.multiple_choice.encoding import EncodedPrompt
from musician.benchmarks.multiple_choice.likelihood import Scores
from musician.benchmarks.multiple_choice.question import LETTERS, Benchmark, Question, style_of, wants_chat
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Record:
    """A question's result, as one line of `predictions.jsonl`.

    Attributes:
        num_fewshot: examples the benchmark shows.
        shots_kept: examples the window held.
        truncated: even without examples the prompt was cut, from the left.
        bos: text of the special tokens the tokenizer put in front.
        method: see `Scores.method`.
        logprobs: see `Scores.logprobs`; None where a score is not finite.
        prediction: the letter chosen; None when a score is not finite (it counts as wrong).
        prompt_style: whose prompt text it is.
        chat: the prompt stood in a user's turn.
        repeat: which asking of the question this is, where its options are shuffled.
        order: which stored option stood at each place.
        prompt_sha256: of the UTF-8 text that was scored, up to `Answer:`.
    """

    benchmark: str
    subject: str
    index: int
    num_fewshot: int
    shots_kept: int
    truncated: bool
    bos: str
    method: str
    logprobs: tuple[float | None, ...]
    letter_mass: float | None
    prediction: str | None
    gold: str
    tie: bool
    num_tokens: int
    prompt_sha256: str
    prompt_version: int
    prompt_style: str = "opencompass"
    chat: bool = False
    repeat: int = 0
    order: tuple[int, ...] = (0, 1, 2, 3)

    @property
    def correct(self) -> bool:
        """Whether the prediction is the gold letter."""
        return self.prediction == self.gold


def make_record(benchmark: Benchmark, question: Question, prompt: EncodedPrompt, scores: Scores, bos: str) -> Record:
    """Join what was asked with what the model answered."""
    return Record(
        benchmark=benchmark.name,
        subject=question.subject,
        index=question.index,
        num_fewshot=benchmark.num_fewshot,
        shots_kept=prompt.shots,
        truncated=scores.truncated,
        bos=bos,
        method=scores.method,
        logprobs=tuple(value if math.isfinite(value) else None for value in scores.logprobs),
        letter_mass=scores.letter_mass if scores.finite else None,
        prediction=scores.prediction,
        gold=LETTERS[question.answer],
        tie=scores.tie,
        num_tokens=scores.num_tokens,
        prompt_sha256=sha256(prompt.text.encode()).hexdigest(),
        prompt_version=benchmark.version,
        prompt_style=style_of(benchmark),
        chat=wants_chat(benchmark),
        repeat=question.repeat,
        order=question.order,
    )


def prompt_hash(records: Iterable[Record]) -> str:
    """Return 12 hex digits that change when any scored prompt does, or the set of questions."""
    return sha256("".join(record.prompt_sha256 for record in records).encode()).hexdigest()[:12]


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the records as JSON lines; a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    write_text(path, "".join(lines))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

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
    """Return the prediction files of a run: of an output directory of `musician.eval`, or of a training's last step.

    Args:
        run: such a directory, a training run directory, or one `predictions.jsonl`.

    Raises:
        UserError: there is none.
    """
    found = _prediction_files(run)
    if found:
        return found
    what = "holds no predictions.jsonl" if run.is_dir() else "does not exist"
    raise UserError(f"{run} {what}; give a directory that `python -m musician.eval` wrote, or a training run.")


def has_predictions(run: Path) -> bool:
    """Whether `prediction_files` finds any."""
    return bool(_prediction_files(run))


def _prediction_files(run: Path) -> list[Path]:
    if run.is_file():
        return [run]
    steps = [*run.glob("eval/step-*"), *run.glob("step-*")]
    steps.sort(key=lambda folder: int(folder.name.removeprefix("step-")) if folder.name[5:].isdigit() else -1)
    for folder in (run, *reversed(steps)):
        found = sorted([*folder.glob("predictions.jsonl"), *folder.glob("*/predictions.jsonl")])
        if found:
            return found
    return []
