"""The four answered versions of a prompt in the chat format a model was trained on."""

from collections.abc import Sequence
from itertools import takewhile

from musician.benchmarks.multiple_choice.encoding import (
    EncodedPrompt,
    Encoder,
    PromptEncoder,
    Truncation,
    cut_left,
    factored,
)
from musician.benchmarks.multiple_choice.question import LETTERS, Benchmark, wants_chat
from musician.data.rendering.conversation import Conversation, Message
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import CONTENT


class ChatPromptEncoder(Encoder):
    """Puts the prompt in the user's turn, and the letter at the start of the assistant's.

    The ids are those of `Renderer.prompt_ids` and of the answer as the renderer writes it, up to the end of the letter:
    what the template adds behind an answer is the same for all four and left out. A prompt too long even without
    examples loses the start of the user's text; turn markers and the end of the question stay.

    Args:
        renderer: the one the model is trained and served with.
        max_length: see `Encoder`.
    """

    def __init__(self, renderer: Renderer, max_length: int) -> None:
        self.renderer = renderer
        self.max_length = max_length
        self.bos = renderer.tokenizer.bos_token if renderer.add_bos else ""
        # The renderer tokenises each segment on its own, so neither depends on what the user says.
        self._answers = [self._answer_ids(letter) for letter in LETTERS]
        some, other = self._prompt_ids("Q"), self._prompt_ids("7")
        self._opening = common_length(some, other)
        self._closing = common_length(some[::-1], other[::-1])

    def encode(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Render the conversation once and continue it with each answer."""
        asked = self._prompt_ids(prompt)
        return factored(prompt, [asked + answer for answer in self._answers], shots)

    def encode_within(self, prompt: str, shots: int = 0) -> EncodedPrompt:
        """Encode, and cut what exceeds the window from the start of the user's text."""
        encoded = self.encode(prompt, shots)
        if encoded.num_tokens <= self.max_length:
            return encoded
        content_end = len(self._prompt_ids(prompt)) - self._closing
        return cut_left(encoded, self.max_length, self._opening, content_end - 1)

    def _prompt_ids(self, prompt: str) -> list[int]:
        return self.renderer.prompt_ids([Message("user", prompt)])

    def _answer_ids(self, letter: str) -> list[int]:
        """Ids of an answer behind `prompt_ids`, without the end of the turn."""
        question, answer = Message("user", "Q"), Message("assistant", letter)
        (rendered,) = self.renderer.render(Conversation((question, answer)))
        ids = rendered.input_ids[len(self._prompt_ids("Q")) : -1].tolist()
        return ids[: len(ids) - self._added_behind(ids)]

    def _added_behind(self, ids: Sequence[int]) -> int:
        """How many of an answer's last ids decode to nothing but the text that the template puts behind it."""
        behind = self.renderer.template.assistant[-2].partition(CONTENT)[2]
        full = self.renderer.read_text(ids)
        for count in range(len(ids) - 1, 0, -1):
            if behind and full == self.renderer.read_text(ids[:-count]) + behind:
                return count
        return 0


def encoder_for(
    benchmark: Benchmark, renderer: Renderer, max_length: int, truncation: Truncation = "keep_answer"
) -> Encoder:
    """Return the encoder a benchmark asks for; the chat format never loses its answer, whatever `truncation` says."""
    if wants_chat(benchmark):
        return ChatPromptEncoder(renderer, max_length)
    return PromptEncoder(renderer.tokenizer, max_length, truncation)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many ids two sequences share at the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
