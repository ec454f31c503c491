"""From a prompt to the token ids of its four answered versions, within the model's window."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from musician.benchmarks.multiple_choice.question import LETTERS, Benchmark, Question
from musician.runtime.errors import UserError

Truncation = Literal["keep_answer", "opencompass"]


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """The prompt answered with each of the four letters, factored into what the four share and what they do not.

    Attributes:
        text: the prompt, up to `Answer:`.
        prefix: int32 ids the four versions begin with, `[length]`, BOS included where the tokenizer adds one.
        tails: the ids that follow for A, B, C and D, at least one each.
        shots: solved examples in the text.
        truncated: ids were cut because even without examples the prompt was too long: after BOS, or, emulating
            OpenCompass, at the end.
    """

    text: str
    prefix: np.ndarray
    tails: tuple[tuple[int, ...], ...]
    shots: int = 0
    truncated: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest version, BOS and answer included."""
        return len(self.prefix) + max(len(tail) for tail in self.tails)

    @property
    def differs_in_one_id(self) -> bool:
        """Whether the four versions differ only in a last id of their own: then one forward ranks them all."""
        return all(len(tail) == 1 for tail in self.tails) and len(set(self.tails)) == len(self.tails)

    @property
    def answer_cut(self) -> bool:
        """Whether the four versions are one: the answer was cut away, every model ties, and A wins."""
        return self.truncated and len(set(self.tails)) == 1


class Encoder(ABC):
    """Fits a benchmark's questions into a window of `max_length` tokens, answer included.

    Attributes:
        max_length: tokens the model may see.
        bos: the text of what stands in front of every prompt by itself, usually one BOS; empty when nothing.
    """

    max_length: int
    bos: str

    @abstractmethod
    def encode(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode the four answered versions in full."""

    @abstractmethod
    def encode_within(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode, and cut what exceeds the window."""

    def fit(self, benchmark: Benchmark, question: Question) -> EncodedPrompt:
        """Encode a question with as many of the benchmark's examples as the window holds, dropping the last first.

        Only a question that is too long without any example is cut.
        """
        for shots in range(benchmark.num_fewshot, 0, -1):
            encoded = self.encode(benchmark.prompt(question, shots), shots)
            if encoded.num_tokens <= self.max_length:
                return encoded
        return self.encode_within(benchmark.prompt(question, 0))


class PromptEncoder(Encoder):
    """Encodes prompts with the tokenizer's own default special tokens, but never anything after the answer.

    Args:
        tokenizer: a `transformers` tokenizer.
        max_length: see `Encoder`.
        truncation: what is cut from a prompt too long even without examples. `keep_answer`: its start, after BOS.
            `opencompass`: its end, answer included, as the released evaluation did; see `EncodedPrompt.answer_cut`.

    Raises:
        UserError: the tokenizer cannot be used, or, on encoding, the window has no room for a prompt and an answer.
    """

    def __init__(self, tokenizer: Any, max_length: int, truncation: Truncation = "keep_answer") -> None:
        if truncation not in ("keep_answer", "opencompass"):
            raise UserError(f"unknown truncation '{truncation}'; one of keep_answer, opencompass.")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.truncation = truncation
        self._leading, self._trailing = special_affixes(tokenizer)
        self.bos = tokenizer.decode(self._leading) if self._leading else ""

    def encode(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Tokenise the four answered versions in full and split off their longest common prefix."""
        versions = self.tokenizer([f"{prompt} {letter}" for letter in LETTERS])["input_ids"]
        if self._trailing:
            versions = [ids[: -self._trailing] for ids in versions]
        return factored(prompt, versions, shots)

    def encode_within(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode, and cut what exceeds the window: from the left behind BOS, or from the right as OpenCompass did."""
        encoded = self.encode(prompt, shots)
        if encoded.num_tokens <= self.max_length:
            return encoded
        if self.truncation == "opencompass":
            return cut_right(encoded, self.max_length, len(self._leading))
        return cut_left(encoded, self.max_length, len(self._leading), len(encoded.prefix) - 1)


def factored(prompt: str, versions: Sequence[Sequence[int]], shots: int) -> EncodedPrompt:
    """Split four versions into their longest common prefix and what follows it."""
    shared = common_prefix_length(versions)
    tails = tuple(tuple(ids[shared:]) for ids in versions)
    return EncodedPrompt(prompt, np.asarray(versions[0][:shared], dtype=np.int32), tails, shots)


def cut_left(encoded: EncodedPrompt, max_length: int, start: int, end: int) -> EncodedPrompt:
    """Remove what exceeds the window from `prefix[start:end]`, its first ids first.

    Raises:
        UserError: that part is shorter than the excess.
    """
    excess = encoded.num_tokens - max_length
    if excess > end - start:
        raise UserError(f"max_length={max_length} leaves no room for a prompt before its answer; raise it.")
    kept = np.concatenate([encoded.prefix[:start], encoded.prefix[start + excess :]])
    return replace(encoded, prefix=kept, truncated=True)


def cut_right(encoded: EncodedPrompt, max_length: int, leading: int) -> EncodedPrompt:
    """Keep the first `max_length` ids of each version, as a tokenizer does that truncates on the right."""
    if max_length <= leading + 1:
        raise UserError(f"max_length={max_length} leaves no room for a prompt before its answer; raise it.")
    prefix = encoded.prefix.tolist()
    cut = factored(encoded.text, [[*prefix, *tail][:max_length] for tail in encoded.tails], encoded.shots)
    return replace(cut, truncated=True)


def special_affixes(tokenizer: Any) -> tuple[list[int], int]:
    """Return the ids a tokenizer puts before a text by default, and the number of ids it puts behind.

    Raises:
        UserError: the text's own ids do not survive the addition.
    """
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    default = tokenizer("a")["input_ids"]
    for start in range(len(default) - len(plain) + 1):
        if default[start : start + len(plain)] == plain:
            return default[:start], len(default) - start - len(plain)
    raise UserError("this tokenizer changes a text's ids when it adds special tokens; benchmarks cannot score with it.")


def common_prefix_length(versions: Sequence[Sequence[int]]) -> int:
    """Return how many ids all versions share at the start, leaving every version at least one of its own."""
    limit = min(len(ids) for ids in versions) - 1
    first = versions[0]
    for position in range(limit):
        if any(ids[position] != first[position] for ids in versions):
            return position
    return limit
