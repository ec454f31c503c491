"""Which of four answers a language model finds likeliest.

OpenCompass' rule is the lowest mean negative log-likelihood of the whole prompt, ties to the earlier letter. When the
four versions of a prompt differ only in their last id, everything before it cancels, and the ranking is that of four
log-probabilities in ONE row of logits: one forward instead of four. What prompts share, such as examples, runs
once. Where a tokenizer breaks the premise, the question is scored by the rule itself, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import nn

from musician.benchmarks.multiple_choice.chat_encoding import encoder_for
from musician.benchmarks.multiple_choice.encoding import EncodedPrompt, Encoder, PromptEncoder
from musician.benchmarks.multiple_choice.forward import Row, score_rows
from musician.benchmarks.multiple_choice.question import LETTERS, Benchmark, wants_chat
from musician.benchmarks.multiple_choice.shared_prefix import Extend, Plan, Read, plan, run
from musician.data.rendering.render import Renderer
from musician.model.network import causal_lm, evaluating
from musician.runtime.errors import UserError

WINDOW = 2048

Progress = Callable[[int, int], None]
Agreement = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model makes of the four answers to one prompt.

    Attributes:
        logprobs: one number per letter, the higher the likelier. Method `letter`: natural log-probability of the letter
            over the full vocabulary. Methods `full` and `audit`: minus the mean negative log-likelihood, in nats a
            token, of the prompt with that letter; the divisor counts all tokens including the first.
        num_tokens: tokens of the prompt with its longest answer, BOS included.
        method: `letter` (one forward), `full` (fallback: the tokenizer breaks the premise) or `audit` (asked for).
        letter_mass: probability on the four letters together; None unless the method is `letter`.
        truncated: the prompt was cut from the left.
    """

    logprobs: tuple[float, float, float, float]
    num_tokens: int
    method: Literal["letter", "full", "audit"]
    letter_mass: float | None
    truncated: bool

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
    """The scorer and its settings; the result does not depend on `batch_size`, `max_tokens` or the order of prompts.

    Args:
        method: `shared` runs what prompts have in common once; `single` is one forward a question; `audit` scores the
            four full prompts, as the original does.
        batch_size: most sequences in a forward.
        max_tokens: most tokens in a forward, padding included; a longer single sequence goes alone.
        max_length: the model's window in tokens; None for the smaller of `max_position_embeddings` and 2048.
        packed_tokens: most tokens in a packed forward of the `shared` method; None for 512 on a CPU (attention among
            strangers costs more there than the forwards it saves), 4096 elsewhere.
        emulate_opencompass: cut an over-long prompt on the right, as the original does: its answer is lost, all four
            options score alike and the earliest letter wins. Otherwise the left is cut and the answer stays.
        device: where the ids go; None for the device of the network's parameters.
    """

    method: Literal["shared", "single", "audit"] = "shared"
    batch_size: int = 16
    max_tokens: int = 16384
    max_length: int | None = None
    packed_tokens: int | None = None
    emulate_opencompass: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"the likelihood scorer's {name} is {getattr(self, name)}; it must be at least 1.")

    def encoder(
        self, network: nn.Module, tokenizer: Any, benchmark: Benchmark | None = None, renderer: Renderer | None = None
    ) -> Encoder:
        """Return the encoder for this network's window, in the form the benchmark asks for.

        Raises:
            UserError: the benchmark wants the chat format and there is no renderer.
        """
        positions = getattr(getattr(causal_lm(network), "config", None), "max_position_embeddings", None)
        window = self.max_length or min(positions or WINDOW, WINDOW)
        if benchmark is not None and wants_chat(benchmark):
            if renderer is None:
                raise UserError(f"benchmark '{benchmark.name}' asks in chat format, which needs a renderer")
            return encoder_for(benchmark, renderer, window)
        return PromptEncoder(tokenizer, window, "opencompass" if self.emulate_opencompass else "keep_answer")

    def score(self, network: nn.Module, tokenizer: Any, prompts: Sequence[str]) -> list[Scores]:
        """Score prompts that end before their answer; too long ones are cut from the left and marked."""
        encoder = self.encoder(network, tokenizer)
        return self.score_encoded(network, [encoder.encode_within(prompt) for prompt in prompts])

    def score_encoded(
        self,
        network: nn.Module,
        prompts: Sequence[EncodedPrompt],
        agree: Agreement | None = None,
        on_progress: Progress | None = None,
    ) -> list[Scores]:
        """Score encoded prompts, in their order.

        Args:
            network: a causal LM, also wrapped by peft. Its training modes are restored, no RNG is drawn from.
            prompts: from this scorer's `encoder`.
            agree: given this rank's number of forwards, returns how many every rank must run; the surplus is idle.
            on_progress: called with (sequences done, sequences in all).
        """
        rows = self.rows(prompts)
        device = torch.device(self.device) if self.device else next(network.parameters()).device
        shared = self._plan(rows, device)
        rest = shared.alone if self.method == "shared" else range(len(rows))
        batches = [
            [rest[i] for i in batch]
            for batch in plan_batches([rows[i] for i in rest], self.batch_size, self.max_tokens)
        ]
        forwards = len(shared.steps) + len(batches)
        idle = agree(forwards) - forwards if agree else 0
        results: list[list[float]] = [[] for _ in rows]
        done = 0
        # Not inference_mode: what it allocates (rotary caches, ZeRO-3's gathered weights) could not be trained with.
        with evaluating(network), torch.no_grad():
            single = ((batch, score_rows(network, [rows[i] for i in batch], device)) for batch in batches)
            for positions, numbers in chain(run(network, rows, shared.steps, device), single):
                for position, result in zip(positions, numbers, strict=True):
                    results[position] = result
                done += len(positions)
                if on_progress:
                    on_progress(done, len(rows))
            for _ in range(idle):
                score_rows(network, [Row.idle()], device)
        return self._collect(prompts, iter(results))

    def _plan(self, rows: Sequence[Row], device: torch.device) -> Plan:
        """What runs once; whole rows, which the premise excludes, always run alone."""
        if self.method != "shared":
            return Plan((), ())
        letters = [i for i, row in enumerate(rows) if row.letters]
        made = plan([rows[i] for i in letters], self.packed_tokens or (512 if device.type == "cpu" else 4096))
        steps = [
            step if isinstance(step, Extend) else Read(step.depth, tuple(letters[i] for i in step.rows))
            for step in made.steps
        ]
        whole = [i for i, row in enumerate(rows) if not row.letters]
        return Plan(tuple(steps), (*(letters[i] for i in made.alone), *whole))

    def rows(self, prompts: Sequence[EncodedPrompt]) -> list[Row]:
        """Return the sequences to run: of each prompt its prefix, or its four versions."""
        return [row for prompt in prompts for row in self._rows(prompt)]

    def _rows(self, prompt: EncodedPrompt) -> list[Row]:
        if prompt.answer_cut:
            # The four versions are one text; scored four times they could differ by rounding.
            return [Row.whole(prompt.prefix, prompt.tails[0])]
        if prompt.differs_in_one_id and self.method != "audit":
            return [Row(prompt.prefix, tuple(tail[0] for tail in prompt.tails))]
        return [Row.whole(prompt.prefix, tail) for tail in prompt.tails]

    def _collect(self, prompts: Sequence[EncodedPrompt], results: Iterator[list[float]]) -> list[Scores]:
        """Turn the numbers of the rows, in row order, into one `Scores` for each prompt."""
        scores = []
        for prompt in prompts:
            if prompt.answer_cut:
                alike = next(results)[0]
                scores.append(Scores((alike, alike, alike, alike), prompt.num_tokens, "full", None, True))
            elif prompt.differs_in_one_id and self.method != "audit":
                a, b, c, d, mass = next(results)
                scores.append(Scores((a, b, c, d), prompt.num_tokens, "letter", mass, prompt.truncated))
            else:
                a, b, c, d = (next(results)[0] for _ in LETTERS)
                method: Literal["full", "audit"] = "audit" if self.method == "audit" else "full"
                scores.append(Scores((a, b, c, d), prompt.num_tokens, method, None, prompt.truncated))
        return scores


def score(network: nn.Module, tokenizer: Any, prompts: Sequence[str], **settings: Any) -> list[Scores]:
    """Score prompts with a `Likelihood` of these settings."""
    return Likelihood(**settings).score(network, tokenizer, prompts)


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
