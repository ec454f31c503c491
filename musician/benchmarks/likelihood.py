"""Which of four answers a language model finds likeliest.

OpenCompass' rule is the lowest mean negative log-likelihood of the whole prompt, ties to the earlier letter. When the
four versions of a prompt differ only in their last id, everything before it cancels, and the ranking is that of four
log-probabilities in ONE row of logits: one forward instead of four. Where a tokenizer breaks that premise, the question
is scored by the rule itself, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from musician.benchmarks.encoding import EncodedPrompt, PromptEncoder
from musician.benchmarks.forward import Row, score_rows
from musician.benchmarks.question import LETTERS
from musician.errors import UserError
from musician.model.network import causal_lm

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
        batch_size: most sequences in a forward.
        max_tokens: most tokens in a forward, padding included; a longer single sequence goes alone.
        max_length: the model's window in tokens; None for the smaller of `max_position_embeddings` and 2048.
        audit: score four full prompts for each question, as the original does.
        device: where the ids go; None for the device of the network's parameters.
    """

    batch_size: int = 16
    max_tokens: int = 16384
    max_length: int | None = None
    audit: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"the likelihood scorer's {name} is {getattr(self, name)}; it must be at least 1.")

    def encoder(self, network: nn.Module, tokenizer: Any) -> PromptEncoder:
        """Return the encoder for this network's window."""
        if self.max_length is not None:
            return PromptEncoder(tokenizer, self.max_length)
        positions = getattr(getattr(causal_lm(network), "config", None), "max_position_embeddings", None)
        return PromptEncoder(tokenizer, min(positions or WINDOW, WINDOW))

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
        rows = [row for prompt in prompts for row in self._rows(prompt)]
        device = torch.device(self.device) if self.device else next(network.parameters()).device
        batches = plan_batches(rows, self.batch_size, self.max_tokens)
        idle = agree(len(batches)) - len(batches) if agree else 0
        results: list[list[float]] = [[] for _ in rows]
        done = 0
        # Not inference_mode: what it allocates (rotary caches, ZeRO-3's gathered weights) could not be trained with.
        with evaluating(network), torch.no_grad():
            for batch in batches:
                for position, result in zip(batch, score_rows(network, [rows[i] for i in batch], device), strict=True):
                    results[position] = result
                done += len(batch)
                if on_progress:
                    on_progress(done, len(rows))
            for _ in range(idle):
                score_rows(network, [Row.idle()], device)
        return self._collect(prompts, iter(results))

    def _rows(self, prompt: EncodedPrompt) -> list[Row]:
        """Return the sequences to run for a prompt: its prefix, or its four versions."""
        if prompt.differs_in_one_id and not self.audit:
            return [Row(prompt.prefix, tuple(tail[0] for tail in prompt.tails))]
        return [Row.whole(prompt.prefix, tail) for tail in prompt.tails]

    def _collect(self, prompts: Sequence[EncodedPrompt], results: Iterator[list[float]]) -> list[Scores]:
        """Turn the numbers of the rows, in row order, into one `Scores` for each prompt."""
        scores = []
        for prompt in prompts:
            if prompt.differs_in_one_id and not self.audit:
                a, b, c, d, mass = next(results)
                scores.append(Scores((a, b, c, d), prompt.num_tokens, "letter", mass, prompt.truncated))
            else:
                a, b, c, d = (next(results)[0] for _ in LETTERS)
                method: Literal["full", "audit"] = "audit" if self.audit else "full"
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


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off, and give every submodule its own mode back afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
