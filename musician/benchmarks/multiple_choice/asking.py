"""How a question is put to a model that writes its answer: the words around it, and the ids that fit the window.

The ways of asking follow Table 3 of the ChatMusician paper (arXiv 2402.16153), in our own words; in-context examples
are the benchmark's `num_fewshot`, and go with each of them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from musician.benchmarks.multiple_choice.chat_encoding import common_length
from musician.benchmarks.multiple_choice.encoding import special_affixes
from musician.benchmarks.multiple_choice.question import Benchmark, Question
from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.runtime.errors import UserError, nearest

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
class GenerativeMode:
    """How to ask for a written answer.

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

    def name(self, benchmark: Benchmark) -> str:
        """Return the name of the results: the benchmark's, and what is asked otherwise than by likelihood."""
        parts = [benchmark.name.removesuffix("_chat"), "generative", "" if self.asking == "plain" else self.asking]
        return "_".join(part for part in [*parts, "chat" if self.chat else ""] if part)

    def text(self, prompt: str) -> str:
        """Return what is asked, from a benchmark's prompt, which ends in `Answer:`."""
        if self.asking == "role_play":
            return self.role + prompt
        if self.reasoning:
            return REASON + "\n" + prompt.removesuffix("Answer:") + ("" if self.chat else REASONING_BEGINS)
        return prompt

    def own_words(self, written: str) -> str:
        """Return the answer without the next question that a base model goes on to invent."""
        if self.chat:
            return written
        if not self.reasoning:
            return written.lstrip().partition("\n\n")[0]
        before, found, after = written.partition("Answer:")
        return before + found + after.partition("\n")[0]


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


def fit_question(benchmark: Benchmark, question: Question, renderer: Renderer, mode: GenerativeMode) -> Asked:
    """Put a question with as many of the benchmark's examples as leave room for an answer."""
    window = mode.max_length - mode.room
    for shots in range(benchmark.num_fewshot, -1, -1):
        text = mode.text(benchmark.prompt(question, shots))
        asked = Asked(text, prompt_ids(text, renderer, mode.chat), shots)
        if len(asked.ids) <= window:
            return asked
    return _without_start(asked, renderer, mode)


def prompt_ids(text: str, renderer: Renderer, chat: bool) -> list[int]:
    """Return the ids an answer continues: of the user's turn, or of the text as the tokenizer begins one."""
    if chat:
        return renderer.prompt_ids([Message("user", text)])
    _, behind = special_affixes(renderer.tokenizer)
    ids: list[int] = renderer.tokenizer(text)["input_ids"]
    return ids[: len(ids) - behind]


def _without_start(asked: Asked, renderer: Renderer, mode: GenerativeMode) -> Asked:
    """Cut the text's first ids, so that what opens the prompt and the end of the question stay."""
    some, other = prompt_ids("Q", renderer, mode.chat), prompt_ids("7", renderer, mode.chat)
    opening, closing = common_length(some, other), common_length(some[::-1], other[::-1])
    excess = len(asked.ids) - (mode.max_length - mode.room)
    if excess >= len(asked.ids) - opening - closing:
        raise UserError(f"max_length={mode.max_length} leaves no room for a question beside an answer of {mode.room}.")
    return Asked(asked.text, asked.ids[:opening] + asked.ids[opening + excess :], 0, True)
