"""Multiple choice by written answer: the model writes, greedily, and the letter is read from what it wrote.

An answer without a letter is counted apart: the accuracy counts it as wrong, `<subset>/parsed` leaves it out, and
`parse_failures` is their number. Close to random, the two differ by more than most models do.

The ways of asking follow Table 3 of the ChatMusician paper (arXiv 2402.16153), in our own words; in-context examples
are the benchmark's `num_fewshot`, and go with each of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from musician.benchmarks.benchmark import Result, refuse_sharded
from musician.benchmarks.multiple_choice.answers import KINDS, parse_answer
from musician.benchmarks.multiple_choice.encoding import ChatFormat, PromptFormat, TextFormat, cut_start
from musician.benchmarks.multiple_choice.question import Question, QuestionSet, fit_examples
from musician.benchmarks.multiple_choice.records import Record, record_of
from musician.benchmarks.multiple_choice.result import choice_result, subset_accuracies
from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.estimate import Estimate
from musician.generation.decoder import complete
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel
from musician.runtime.errors import UserError, nearest
from musician.runtime.progress import ProgressLine

Asking = Literal["plain", "role_play", "chain_of_thought"]
ASKINGS: tuple[Asking, ...] = get_args(Asking)

ROLE = (
    "You are a professor of music theory. You know harmony, counterpoint, form, notation and music history, and you "
    "read ABC notation as easily as a score.\n"
)
REASON = (
    "Think step by step: say what the question asks, work it out from the music or the definitions, and compare the "
    "options. Then end with one line of the form `Answer: X`, where X is the letter of the best option.\n"
)
REASONING_BEGINS = "Reasoning:"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the model gets it.

    Attributes:
        text: what is asked, without the chat template.
        ids: what the answer continues.
        shots: solved examples in the text.
        truncated: even without examples it was too long, and lost its start.
    """

    text: str
    ids: list[int]
    shots: int
    truncated: bool = False


@dataclass(frozen=True)
class WrittenAnswers:
    """The scorer and its settings. Not for ZeRO-3, whose ranks would have to write answers of one length.

    Attributes:
        asking: `plain` (the benchmark's prompt), `role_play` (an expert's role before it) or `chain_of_thought` (the
            model reasons, then ends in `Answer: X`).
        chat: put the prompt in the user's turn; False for base models, which continue the text.
        role: the text before a `role_play` prompt.
        max_new_tokens: of an answer; None for 32, or 512 with reasoning.
        max_length: tokens the model may see, answer included; examples are dropped to fit, the last first.
    """

    asking: Asking = "plain"
    chat: bool = True
    role: str = ROLE
    max_new_tokens: int | None = None
    max_length: int = 2048

    def __post_init__(self) -> None:
        if self.asking not in ASKINGS:
            raise UserError(f"unknown way of asking '{self.asking}'{nearest(self.asking, ASKINGS)}; one of {ASKINGS}.")
        if self.room >= self.max_length:
            raise UserError(f"max_new_tokens={self.room} leaves no room for a prompt in max_length={self.max_length}.")

    @property
    def reasoning(self) -> bool:
        """Whether the answer comes after a line of thought."""
        return self.asking == "chain_of_thought"

    @property
    def room(self) -> int:
        """Tokens kept free for the answer."""
        return self.max_new_tokens or (512 if self.reasoning else 32)

    def suffixes(self, chat: bool) -> list[str]:
        """Return `generative`, the way of asking, and `chat` for the scorer's own format."""
        return ["generative", *([] if self.asking == "plain" else [self.asking]), *(["chat"] if self.chat else [])]

    def run(self, benchmark: QuestionSet, model: LanguageModel, shard: Shard) -> Result:
        """Ask the questions of this process's shard and read the answers."""
        started = time.perf_counter()
        refuse_sharded(model, benchmark.name)
        questions = benchmark.questions()
        mine = [questions[i] for i in shard.mine(len(questions))]
        prompts = ChatFormat(model.renderer) if self.chat else TextFormat(model.tokenizer)
        asked = [self.ask(benchmark, question, prompts) for question in mine]
        with ProgressLine(benchmark.name, enabled=shard.rank == 0) as line:
            answers = self.write(model, [each.ids for each in asked], lambda done: line.update(done, len(mine)))
        records = shard.gather_in_order(
            [self._read(benchmark, *each) for each in zip(mine, asked, answers, strict=True)], len(questions)
        )
        failures = sum(record.prediction is None for record in records)
        kinds = Counter(record.read_by for record in records)
        counts = {f"read_by_{kind}": kinds[kind] for kind in KINDS} | {"parse_failures": failures}
        result = choice_result(benchmark, records, shard.rank, started, counts)
        rate = Estimate(failures / len(records), len(records))
        parsed = subset_accuracies([record for record in records if record.prediction], benchmark.subsets)
        return replace(
            result,
            estimates={**result.estimates, "parse_failure_rate": rate},
            more={f"{name}/parsed": found for name, found in parsed.items()},
        )

    def write(self, model: LanguageModel, prompts: Sequence[list[int]], on_written: Callable[[int], None]) -> list[str]:
        """Return what the model writes, greedily, behind the ids of prompts."""
        sampling = Sampling(temperature=0, max_new_tokens=self.room)
        read = model.renderer.read_answer if self.chat else model.renderer.read_text
        answers: dict[int, str] = {}
        requests = [(ids, sampling) for ids in prompts]
        for number, ids in complete(prepare(model), requests, model.tokenizer.eos_token_id):
            answers[number] = read(ids)
            on_written(len(answers))
        return [answers[number] for number in range(len(prompts))]

    def text(self, prompt: str) -> str:
        """Return what is asked, from a benchmark's prompt, which ends in `Answer:`."""
        if self.asking == "role_play":
            return self.role + prompt
        if self.reasoning:
            return REASON + "\n" + prompt.removesuffix("Answer:") + ("" if self.chat else REASONING_BEGINS)
        return prompt

    def ask(self, benchmark: QuestionSet, question: Question, prompts: PromptFormat) -> Asked:
        """Encode a question with as many of the benchmark's examples as leave room for an answer.

        Raises:
            UserError: the window has no room for a question and an answer.
        """

        def encode(prompt: str, shots: int) -> Asked:
            text = self.text(prompt)
            return Asked(text, prompts.prompt_ids(text), shots)

        window = self.max_length - self.room
        asked = fit_examples(benchmark, question, encode, lambda each: len(each.ids) <= window)
        excess = len(asked.ids) - window
        if excess <= 0:
            return asked
        kept = cut_start(asked.ids, excess, prompts.opening, prompts.closing, self.max_length)
        return replace(asked, ids=kept, truncated=True)

    def own_words(self, written: str) -> str:
        """Return the answer without the next question that a base model goes on to invent."""
        if self.chat:
            return written
        if not self.reasoning:
            return written.lstrip().partition("\n\n")[0]
        before, found, after = written.partition("Answer:")
        return before + found + after.partition("\n")[0]

    def _read(self, benchmark: QuestionSet, question: Question, asked: Asked, written: str) -> Record:
        """Read the answer to one question."""
        response = self.own_words(written)
        parsed = parse_answer(response, question.options, self.reasoning)
        return record_of(
            benchmark,
            question,
            asked.text,
            prediction=parsed.letter if parsed else None,
            chat=self.chat,
            shots_kept=asked.shots,
            truncated=asked.truncated,
            num_tokens=len(asked.ids),
            method="written",
            response=response,
            read_by=parsed.kind if parsed else None,
        )
