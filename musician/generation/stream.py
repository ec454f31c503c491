"""Text that a model writes, piece by piece, which can be stopped and held to the grammar of tunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.chunk import Forward
from musician.generation.constraint import GrammarConstraint
from musician.generation.decoder import Decoder
from musician.generation.sampling import Sampling


def stream(
    forward: Forward,
    renderer: Renderer,
    messages: Sequence[Message],
    sampling: Sampling,
    constraint: GrammarConstraint | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Yield the pieces of an answer as they are written; their concatenation is the answer.

    Closing the iterator ends the work at once. The same seed gives the same text, whatever was asked before.

    Args:
        forward: from `prepare`.
        renderer: renders the prompt as in training.
        messages: the conversation; the last turn is the user's.
        sampling: how to draw.
        constraint: hold the answer to a tune; from `answer_constraint`.
        stopped: asked before each token; True ends the answer.

    Raises:
        UserError: the constraint cannot be met within `sampling.max_new_tokens`.
    """
    answer = AnswerText(renderer)
    for token in tokens(forward, renderer.prompt_ids(messages), sampling, renderer.tokenizer.eos_token_id, constraint):
        piece = answer.add([token])
        if piece:
            yield piece
        if stopped():
            break
    rest = answer.rest()
    if rest:
        yield rest


class AnswerText:
    """The text of an answer whose ids come a few at a time; the pieces joined are the answer.

    Args:
        renderer: of the prompt.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._ids: list[int] = []
        self._shown = ""

    def add(self, ids: Sequence[int]) -> str:
        """What the next ids add; empty while it is not sure."""
        self._ids += ids
        text = self._renderer.read_answer(self._ids)
        # Half a character, or a blank that may turn out to be the template's, waits for the next token.
        if not text.startswith(self._shown) or text.endswith(("\ufffd", " ")):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece

    def rest(self) -> str:
        """What is left when the answer has ended."""
        return self._renderer.read_answer(self._ids)[len(self._shown) :]


def tokens(
    forward: Forward, prompt: Sequence[int], sampling: Sampling, eos: int, constraint: GrammarConstraint | None = None
) -> Iterator[int]:
    """Yield the ids that follow a prompt, without the end-of-sequence token, at most `max_new_tokens`."""
    decoder = Decoder(forward, eos, rows=1)
    decoder.submit(prompt, sampling, constraint)
    while not decoder.idle:
        for event in decoder.step():
            if event.error:
                raise event.error
            yield from event.tokens
