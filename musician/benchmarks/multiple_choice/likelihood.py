"""Which of four answers a language model finds likeliest.

OpenCompass' rule is the lowest mean negative log-likelihood of the whole prompt, ties to the earlier letter. When the
four versions of a prompt differ only in their last id, everything before it cancels, and the ranking is that of four
log-probabilities in ONE row of logits: one forward instead of four. What prompts share, such as examples, runs
once. Where a tokenizer breaks the premise, the question is scored by the rule itself, and counted.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import torch

from musician.benchmarks.benchmark import Result
from musician.benchmarks.multiple_choice.calibration import Calibration
from musician.benchmarks.multiple_choice.encoding import ChatFormat, EncodedPrompt, Encoder, TextFormat
from musician.benchmarks.multiple_choice.forward import IDLE, Row, score_rows
from musician.benchmarks.multiple_choice.question import LETTERS, Question, QuestionSet
from musician.benchmarks.multiple_choice.records import Record, record_of
from musician.benchmarks.multiple_choice.result import choice_result
from musician.benchmarks.multiple_choice.shared_prefix import Plan, plan, run_plan
from musician.benchmarks.shard import Shard
from musician.lm.language_model import LanguageModel
from musician.model.network import causal_lm
from musician.runtime.errors import UserError
from musician.runtime.progress import ProgressLine

logger = logging.getLogger(__name__)

WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model makes of the four answers to one prompt.

    Attributes:
        logprobs: one number per letter, the higher the likelier. Method `letter`: natural log-probability of the letter
            over the full vocabulary. Methods `full` and `audit`: minus the mean negative log-likelihood, in nats a
            token, of the prompt with that letter; the divisor counts all tokens including the first.
        method: `letter` (one forward), `full` (fallback: the tokenizer breaks the premise) or `audit` (asked for).
        letter_mass: probability on the four letters together; None unless the method is `letter`.
    """

    logprobs: tuple[float, ...]
    method: Literal["letter", "full", "audit"]
    letter_mass: float | None = None

    @property
    def finite(self) -> bool:
        """Whether all four numbers are finite; otherwise there is no prediction."""
        return all(math.isfinite(value) for value in self.logprobs)

    @property
    def prediction(self) -> str | None:
        """The likeliest letter, the earlier one on a tie; None when a score is not finite."""
        return LETTERS[self.logprobs.index(max(self.logprobs))] if self.finite else None

    @property
    def tie(self) -> bool:
        """Whether the two best letters score exactly alike, so that the order of the letters decided."""
        return self.finite and self.logprobs.count(max(self.logprobs)) > 1


@dataclass(frozen=True)
class Likelihood:
    """The scorer and its settings; `batch_size`, `max_tokens` and the order of prompts change no more than rounding.

    Args:
        method: `shared` runs what prompts have in common once; `single` is one forward a question; `audit` scores the
            four full prompts in fp32, as the original does.
        batch_size: most sequences in a forward.
        max_tokens: most tokens in a forward, padding included; a longer single sequence goes alone.
        max_length: the model's window in tokens; None for the smaller of `max_position_embeddings` and 2048.
        packed_tokens: most tokens in a packed forward of the `shared` method; None for 512 on a CPU (attention to other
            sequences costs more there than the forwards it saves), 4096 elsewhere.
        emulate_opencompass: cut an over-long prompt on the right, as the original does: its answer is lost, all four
            options score alike and the earliest letter wins. Otherwise the left is cut and the answer stays.
    """

    method: Literal["shared", "single", "audit"] = "shared"
    batch_size: int = 16
    max_tokens: int = 16384
    max_length: int | None = None
    packed_tokens: int | None = None
    emulate_opencompass: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"the likelihood scorer's {name} is {getattr(self, name)}; it must be at least 1.")

    def suffixes(self, chat: bool) -> list[str]:
        """Return `chat` for the chat format."""
        return ["chat"] if chat else []

    def run(self, benchmark: QuestionSet, model: LanguageModel, shard: Shard) -> Result:
        """Score this rank's questions; every rank runs the same number of forwards, because under ZeRO-3 each is a
        collective call.
        """
        started = time.perf_counter()
        encoder = self.encoder(model, benchmark.chat)
        questions = benchmark.questions()
        mine = [questions[i] for i in shard.mine(len(questions))]
        prompts = [encoder.fit(benchmark, question) for question in mine]
        with ProgressLine(benchmark.name, enabled=shard.rank == 0) as line:
            scores = self.score(model, prompts, agree=shard.most, on_progress=line.update)
        records = [_record(benchmark, *each, encoder.format.bos) for each in zip(mine, prompts, scores, strict=True)]
        records = shard.gather_in_order(records, len(questions))
        masses = [record.letter_mass for record in records if record.letter_mass is not None]
        counts = {
            "ties": sum(record.tie for record in records),
            "fallbacks": sum(record.method == "full" for record in records),
            "non_finite": sum(record.prediction is None for record in records),
            **({"letter_mass": sum(masses) / len(masses)} if masses else {}),
            **Calibration.of(records).details(),
        }
        return choice_result(benchmark, records, shard.rank, started, counts)

    def encoder(self, model: LanguageModel, chat: bool = False) -> Encoder:
        """Return the encoder for this network's window; the chat format never loses its answer."""
        positions = getattr(getattr(causal_lm(model.network), "config", None), "max_position_embeddings", None)
        window = self.max_length or min(positions or WINDOW, WINDOW)
        if chat:
            return Encoder(ChatFormat(model.renderer), window)
        return Encoder(TextFormat(model.tokenizer), window, keep_answer=not self.emulate_opencompass)

    def score(
        self,
        model: LanguageModel,
        prompts: Sequence[EncodedPrompt],
        agree: Callable[[int], int] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Scores]:
        """Score encoded prompts, in their order.

        Args:
            model: its network is in evaluation mode. No RNG is drawn from.
            prompts: from this scorer's `encoder`.
            agree: given this rank's number of forwards, returns how many every rank must run; the surplus is idle.
            on_progress: called with (sequences done, sequences in all).

        Raises:
            UserError: method `audit`, and weights that are not fp32.
        """
        if self.method == "audit":
            model = _in_fp32(model)
        groups = [self.rows(prompt) for prompt in prompts]
        rows = list(chain(*groups))
        made = self._plan(model, rows)
        steps, alone = made.steps, made.alone
        batches = [
            [alone[i] for i in batch]
            for batch in plan_batches([rows[i] for i in alone], self.batch_size, self.max_tokens)
        ]
        forwards = len(steps) + len(batches)
        idle = agree(forwards) - forwards if agree else 0
        results: list[list[float]] = [[] for _ in rows]
        done = 0
        # Not inference_mode: what it allocates (rotary caches, ZeRO-3's gathered weights) could not be trained with.
        with torch.no_grad():
            single = ((batch, score_rows(model, [rows[i] for i in batch])) for batch in batches)
            for positions, numbers in chain(run_plan(model, rows, steps), single):
                for position, result in zip(positions, numbers, strict=True):
                    results[position] = result
                done += len(positions)
                if on_progress:
                    on_progress(done, len(rows))
            for _ in range(idle):
                score_rows(model, [IDLE])
        found = iter(results)
        return [self._scores([next(found) for _ in group]) for group in groups]

    def rows(self, prompt: EncodedPrompt) -> list[Row]:
        """Return the sequences to run: the prefix, or the four versions."""
        if prompt.answer_cut:
            # The four versions are one text; scored four times they could differ by rounding.
            return [Row.whole(prompt.prefix, prompt.tails[0])]
        if prompt.differs_in_one_id and self.method != "audit":
            return [Row(prompt.prefix, tuple(tail[0] for tail in prompt.tails))]
        return [Row.whole(prompt.prefix, tail) for tail in prompt.tails]

    def _scores(self, numbers: Sequence[Sequence[float]]) -> Scores:
        """Turn the numbers of a prompt's rows into its scores."""
        if len(numbers[0]) > 1:
            *logprobs, mass = numbers[0]
            return Scores(tuple(logprobs), "letter", mass)
        logprobs = [each[0] for each in numbers]
        return Scores(tuple(logprobs * (len(LETTERS) // len(logprobs))), "audit" if self.method == "audit" else "full")

    def _plan(self, model: LanguageModel, rows: Sequence[Row]) -> Plan:
        """Return what runs once, and the rows that run alone."""
        if self.method != "shared":
            return Plan((), tuple(range(len(rows))))
        window = getattr(getattr(causal_lm(model.network), "config", None), "sliding_window", None)
        if window and any(len(row.ids) > window for row in rows):
            # The packed ends see the whole cache; transformers makes the sliding mask only where it gets none.
            logger.info("prompts exceed the sliding window of %d tokens: one forward a question", window)
            return Plan((), tuple(range(len(rows))))
        return plan(rows, self.packed_tokens or (512 if model.device.type == "cpu" else 4096))


def _record(benchmark: QuestionSet, question: Question, prompt: EncodedPrompt, scores: Scores, bos: str) -> Record:
    return record_of(
        benchmark,
        question,
        prompt.text,
        prediction=scores.prediction,
        chat=benchmark.chat,
        shots_kept=prompt.shots,
        truncated=prompt.truncated,
        num_tokens=prompt.num_tokens,
        bos=bos,
        method=scores.method,
        logprobs=tuple(value if math.isfinite(value) else None for value in scores.logprobs),
        letter_mass=scores.letter_mass if scores.finite else None,
        tie=scores.tie,
    )


def _in_fp32(model: LanguageModel) -> LanguageModel:
    """Return the model without autocast; refuse weights of another type, because rounding decides close letters."""
    dtypes = {parameter.dtype for parameter in model.network.parameters() if parameter.is_floating_point()}
    if dtypes - {torch.float32}:
        raise UserError("scorer.method=audit: needs weights in fp32; open the model with model.precision=32-true")
    return replace(model, precision="32-true")


def plan_batches(rows: Sequence[Row], batch_size: int, max_tokens: int) -> list[list[int]]:
    """Group row positions, longest first, so that padding is small and a shortage of memory shows at once.

    A batch holds rows of one kind (letters or whole sequences).
    """
    order = sorted(range(len(rows)), key=lambda i: (not rows[i].letters, -len(rows[i].ids), i))
    batches: list[list[int]] = []
    for position in order:
        if batches:
            last = batches[-1]
            longest = len(rows[last[0]].ids)
            same_kind = bool(rows[last[0]].letters) == bool(rows[position].letters)
            if same_kind and len(last) < batch_size and longest * (len(last) + 1) <= max_tokens:
                last.append(position)
                continue
        batches.append([position])
    return batches
