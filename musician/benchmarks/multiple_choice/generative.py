"""Benchmarks by free answer: the model writes, greedily, and the letter is read from what it wrote.

An answer without a letter is counted apart: `accuracy` takes it as wrong, `accuracy_parsed` leaves it out, and
`parse_failures` says how many there were. Close to random, the two differ by more than most models do.

How questions are put: `musician.benchmarks.multiple_choice.asking`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Any

from musician.benchmarks.evaluation import subset_accuracies
from musician.benchmarks.multiple_choice.answers import KINDS, parse_answer
from musician.benchmarks.multiple_choice.asking import Asked, GenerativeMode, fit_question
from musician.benchmarks.multiple_choice.question import LETTERS, Benchmark, Question, style_of
from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.accuracy import Accuracy
from musician.data.rendering.render import Renderer
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

#: Writes on after the ids of prompts, greedily: (prompts, most new tokens of each) to (number of a prompt, new text),
#: in any order.
Generate = Callable[[Sequence[list[int]], int], Iterable[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class GenerativeRecord:
    """One question's written answer.

    Attributes:
        prediction: the letter read from the response; None when there is none.
        kind: by which pattern; see `musician.benchmarks.multiple_choice.answers`.
        shots_kept: examples the window held.
        truncated: even without examples the prompt was cut, from the left.
        prompt_sha256: of the UTF-8 text asked.
    """

    benchmark: str
    subject: str
    index: int
    repeat: int
    gold: str
    prediction: str | None
    kind: str | None
    response: str
    num_fewshot: int
    shots_kept: int
    truncated: bool
    num_tokens: int
    prompt_sha256: str
    prompt_version: int
    prompt_style: str

    @property
    def correct(self) -> bool:
        """Whether the prediction is the gold letter."""
        return self.prediction == self.gold


@dataclass(frozen=True)
class GenerativeResult:
    """What the written answers amount to.

    Attributes:
        benchmark: name of the results.
        accuracies: by subset, over all questions: an unread answer is wrong.
        accuracies_parsed: by subset, over the answers with a letter; without those subsets that have none.
        n: questions asked.
        parse_failures: answers without a letter.
        records: one for each question, in the benchmark's order.
    """

    benchmark: str
    accuracies: Mapping[str, Accuracy]
    accuracies_parsed: Mapping[str, Accuracy]
    n: int
    parse_failures: int
    records: Sequence[GenerativeRecord]

    @property
    def accuracy(self) -> float:
        """Share of right answers among all questions, each counted once."""
        return sum(record.correct for record in self.records) / self.n

    @property
    def accuracy_parsed(self) -> float | None:
        """Share of right answers among those with a letter."""
        parsed = self.n - self.parse_failures
        return sum(record.correct for record in self.records) / parsed if parsed else None

    def metrics(self) -> dict[str, float]:
        """Return accuracies over all questions and the rate of unread answers, for a dashboard."""
        values = {f"eval/{self.benchmark}/{name}": result.value for name, result in self.accuracies.items()}
        return values | {f"eval/{self.benchmark}/parse_failure_rate": self.parse_failures / self.n}

    def details(self) -> dict[str, float]:
        """Return intervals, accuracies over read answers, and how often each kind of evidence decided."""
        root = f"eval/{self.benchmark}"
        values: dict[str, float] = {}
        for name, result in self.accuracies.items():
            parts = {"n": result.n, "stderr": result.stderr, "ci95_low": result.low, "ci95_high": result.high}
            values |= {f"{root}/{name}/{key}": value for key, value in parts.items() if value == value}
        values |= {f"{root}/{name}/parsed": result.value for name, result in self.accuracies_parsed.items()}
        kinds = Counter(record.kind for record in self.records)
        values |= {f"{root}/read_by_{kind}": kinds[kind] for kind in KINDS}
        return values | {f"{root}/parse_failures": self.parse_failures}


def evaluate_generative(
    benchmark: Benchmark,
    renderer: Renderer,
    generate: Generate,
    mode: GenerativeMode | None = None,
    *,
    shard: Shard | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> GenerativeResult:
    """Ask every question of a benchmark and read the answers.

    Each process asks the questions of its shard. Not for ZeRO-3, whose ranks would have to write answers
    of one length.

    Args:
        benchmark: what to ask.
        renderer: turns prompts into ids; the one the model is served with.
        generate: writes the answers.
        mode: how to ask; None for a chat model, plainly.
        shard: this process's share; None for all of it.
        on_progress: called with (questions done, questions in all) of this rank.
    """
    mode = mode or GenerativeMode()
    questions = benchmark.questions()
    if not questions:
        raise UserError(f"benchmark '{benchmark.name}' has no questions; check its subjects and limit.")
    shard = shard or Shard()
    mine = shard.mine(len(questions))
    asked = [fit_question(benchmark, questions[place], renderer, mode) for place in mine]
    local = []
    for number, response in generate([fitted.ids for fitted in asked], mode.room):
        record = record_of(benchmark, questions[mine[number]], asked[number], mode, response)
        local.append((mine[number], record))
        if on_progress:
            on_progress(len(local), len(mine))
    numbered = sorted(shard.gather(local), key=itemgetter(0))
    return result_of(mode.name(benchmark), benchmark, [record for _, record in numbered])


def record_of(
    benchmark: Benchmark, question: Question, asked: Asked, mode: GenerativeMode, response: str
) -> GenerativeRecord:
    """Read the answer to one question."""
    response = mode.own_words(response)
    parsed = parse_answer(response, question.options, mode.reasoning)
    return GenerativeRecord(
        benchmark=mode.name(benchmark),
        subject=question.subject,
        index=question.index,
        repeat=question.repeat,
        gold=LETTERS[question.answer],
        prediction=parsed.letter if parsed else None,
        kind=parsed.kind if parsed else None,
        response=response,
        num_fewshot=benchmark.num_fewshot,
        shots_kept=asked.shots,
        truncated=asked.truncated,
        num_tokens=len(asked.ids),
        prompt_sha256=sha256(asked.text.encode()).hexdigest(),
        prompt_version=benchmark.version,
        prompt_style=style_of(benchmark),
    )


def result_of(name: str, benchmark: Benchmark, records: Sequence[GenerativeRecord]) -> GenerativeResult:
    """Count what the records say."""
    asked: Sequence[Any] = records
    parsed = [record for record in asked if record.prediction]
    return GenerativeResult(
        benchmark=name,
        accuracies=subset_accuracies(asked, benchmark.subsets),
        accuracies_parsed=subset_accuracies(parsed, benchmark.subsets),
        n=len(records),
        parse_failures=len(records) - len(parsed),
        records=records,
    )


def write_generations(path: Path, records: Sequence[GenerativeRecord]) -> None:
    """Write one JSON line for each answer; a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records))
