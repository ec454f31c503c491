"""From a prompt to the token ids of its four answered versions, within the model's window."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musician.benchmarks.question import LETTERS, Benchmark, Question
from musician.errors import UserError


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """The prompt answered with each of the four letters, factored into what the four share and what they do not.

    Attributes:
        text: the prompt, up to `Answer:`.
        prefix: int32 ids the four versions begin with, `[length]`, BOS included where the tokenizer adds one.
        tails: the ids that follow for A, B, C and D, at least one each.
        shots: solved examples in the text.
        truncated: ids were cut from the left (after BOS) because even without examples the prompt was too long.
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


class PromptEncoder:
    """Encodes prompts with the tokenizer's own default special tokens, but never anything after the answer.

    Args:
        tokenizer: a `transformers` tokenizer.
        max_length: tokens the model may see, answer included.

    Raises:
        UserError: the window is too small to hold special tokens and an answer.

    Attributes:
        bos: the text of what the tokenizer puts in front by itself, usually one BOS; empty when nothing.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._leading, self._trailing = special_affixes(tokenizer)
        self.bos: str = tokenizer.decode(self._leading) if self._leading else ""

    def encode(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Tokenise the four answered versions in full and split off their longest common prefix."""
        versions = self.tokenizer([f"{prompt} {letter}" for letter in LETTERS])["input_ids"]
        if self._trailing:
            versions = [ids[: -self._trailing] for ids in versions]
        shared = common_prefix_length(versions)
        tails = tuple(tuple(ids[shared:]) for ids in versions)
        return EncodedPrompt(prompt, np.asarray(versions[0][:shared], dtype=np.int32), tails, shots)

    def encode_within(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode, and cut from the left what exceeds the window; BOS and the end of the prompt survive."""
        encoded = self.encode(prompt, shots)
        excess = encoded.num_tokens - self.max_length
        if excess <= 0:
            return encoded
        leading = len(self._leading)
        if excess > len(encoded.prefix) - leading - 1:
            raise UserError(f"max_length={self.max_length} leaves no room for a prompt before its answer; raise it.")
        kept = np.concatenate([encoded.prefix[:leading], encoded.prefix[leading + excess :]])
        return replace(encoded, prefix=kept, truncated=True)

    def fit(self, benchmark: Benchmark, question: Question) -> EncodedPrompt:
        """Encode a question with as many of the benchmark's examples as the window holds, dropping the last first.

        Only a question that is too long without any example is cut from the left.
        """
        for shots in range(benchmark.num_fewshot, 0, -1):
            encoded = self.encode(benchmark.prompt(question, shots), shots)
            if encoded.num_tokens <= self.max_length:
                return encoded
        return self.encode_within(benchmark.prompt(question, 0))


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


def common_prefix_length(versions: list[list[int]]) -> int:
    """Return how many ids all versions share at the start, leaving every version at least one of its own."""
    limit = min(len(ids) for ids in versions) - 1
    first = versions[0]
    for position in range(limit):
        if any(ids[position] != first[position] for ids in versions):
            return position
    return limit
