"""From a prompt to the token ids of its four answered versions, within the model's window."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np

from musician.benchmarks.multiple_choice.question import LETTERS, Question, QuestionSet, fit_examples
from musician.data.rendering.conversation import Conversation, Message
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import CONTENT
from musician.runtime.errors import UserError


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


class PromptFormat(ABC):
    """The ids of a prompt, and of the four answers that continue it.

    Attributes:
        bos: the text of what is in front of every prompt by itself, usually one BOS; empty when nothing.
        opening: ids in front of every prompt, which are never cut.
        closing: ids behind every prompt, which are never cut.
    """

    bos: str
    opening: int
    closing: int

    @abstractmethod
    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids that an answer continues."""

    @abstractmethod
    def answered(self, text: str) -> list[list[int]]:
        """Return the ids of the prompt with each of the four letters behind it."""


class TextFormat(PromptFormat):
    """Plain text with the tokenizer's own default special tokens, but never anything behind the answer.

    Raises:
        UserError: the tokenizer changes a text's ids when it adds special tokens.
    """

    closing = 0

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        leading, self._trailing = special_affixes(tokenizer)
        self.opening = len(leading)
        self.bos = tokenizer.decode(leading) if leading else ""

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of a text as the tokenizer begins one."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids[: len(ids) - self._trailing]

    def answered(self, text: str) -> list[list[int]]:
        """Tokenise text and letter together, because an id may hold the end of one and the start of the other."""
        versions = self._tokenizer([f"{text} {letter}" for letter in LETTERS])["input_ids"]
        return [ids[: len(ids) - self._trailing] for ids in versions]


class ChatFormat(PromptFormat):
    """The prompt in the user's turn, and the letter at the start of the assistant's.

    The ids are those of `Renderer.prompt_ids` and of the answer as the renderer writes it, up to the end of the letter:
    what the template adds behind an answer is the same for all four and left out.

    Args:
        renderer: the one the model is trained and served with.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.bos = renderer.tokenizer.bos_token if renderer.add_bos else ""
        # The renderer tokenises each segment on its own, so neither depends on what the user writes.
        self._answers = [self._answer_ids(letter) for letter in LETTERS]
        some, other = self.prompt_ids("Q"), self.prompt_ids("7")
        self.opening, self.closing = common_length(some, other), common_length(some[::-1], other[::-1])

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of the user's turn, up to where the assistant's text begins."""
        return self._renderer.prompt_ids([Message("user", text)])

    def answered(self, text: str) -> list[list[int]]:
        """Render the conversation once and continue it with each answer."""
        asked = self.prompt_ids(text)
        return [asked + answer for answer in self._answers]

    def _answer_ids(self, letter: str) -> list[int]:
        """Ids of an answer behind `prompt_ids`, without the end of the turn and what the template puts before it."""
        question, answer = Message("user", "Q"), Message("assistant", letter)
        (rendered,) = self._renderer.render(Conversation((question, answer)))
        ids: list[int] = rendered.input_ids[len(self.prompt_ids("Q")) : -1].tolist()
        behind = self._renderer.template.assistant[-2].partition(CONTENT)[2]
        read = self._renderer.read_text
        added = (n for n in range(len(ids) - 1, 0, -1) if behind and read(ids) == read(ids[:-n]) + behind)
        return ids[: len(ids) - next(added, 0)]


@dataclass(frozen=True)
class Encoder:
    """Fits the questions of a benchmark into a window, answer included.

    Attributes:
        format: turns prompts into ids.
        max_length: tokens the model may see.
        keep_answer: cut a prompt that is too long even without examples at the start of its text. False cuts its end,
            answer included, as the released evaluation did; see `EncodedPrompt.answer_cut`.
    """

    format: PromptFormat
    max_length: int
    keep_answer: bool = True

    def encode(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode the four answered versions in full."""
        return factored(prompt, self.format.answered(prompt), shots)

    def fit(self, benchmark: QuestionSet, question: Question) -> EncodedPrompt:
        """Encode a question with as many of the benchmark's examples as the window holds, dropping the last first."""
        return self.cut(fit_examples(benchmark, question, self.encode, self._fits))

    def _fits(self, encoded: EncodedPrompt) -> bool:
        return encoded.num_tokens <= self.max_length

    def cut(self, encoded: EncodedPrompt) -> EncodedPrompt:
        """Cut what exceeds the window.

        Raises:
            UserError: the window has no room for a prompt and an answer.
        """
        if self._fits(encoded):
            return encoded
        opening, prefix = self.format.opening, encoded.prefix.tolist()
        if not self.keep_answer:
            if self.max_length <= opening + 1:
                raise UserError(f"max_length={self.max_length} leaves no room for a prompt before its answer; raise it")
            cut = [[*prefix, *tail][: self.max_length] for tail in encoded.tails]
            return replace(factored(encoded.text, cut, encoded.shots), truncated=True)
        closing = len(prefix) - len(self.format.prompt_ids(encoded.text)) + self.format.closing
        excess = encoded.num_tokens - self.max_length
        kept = np.asarray(cut_start(prefix, excess, opening, max(closing, 0), self.max_length), dtype=np.int32)
        return replace(encoded, prefix=kept, truncated=True)


def cut_start(ids: list[int], excess: int, opening: int, closing: int, max_length: int) -> list[int]:
    """Remove the first ids of what is between opening and closing.

    Raises:
        UserError: there are too few.
    """
    if excess >= len(ids) - opening - closing:
        raise UserError(f"max_length={max_length} leaves no room for a prompt before its answer; raise it")
    return ids[:opening] + ids[opening + excess :]


def factored(prompt: str, versions: Sequence[Sequence[int]], shots: int) -> EncodedPrompt:
    """Split four versions into their longest common prefix, which leaves each at least one id, and what follows it."""
    shared = min(min(map(len, versions)) - 1, *(common_length(versions[0], version) for version in versions[1:]))
    tails = tuple(tuple(ids[shared:]) for ids in versions)
    return EncodedPrompt(prompt, np.asarray(versions[0][:shared], dtype=np.int32), tails, shots)


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
    raise UserError("this tokenizer changes a text's ids when it adds special tokens; benchmarks cannot score with it")


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many ids two sequences share at the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
