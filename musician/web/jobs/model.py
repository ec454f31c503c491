"""A model that answers many conversations as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from musician.data.rendering.conversation import Message
from musician.generation.constraint import answer_constraint
from musician.generation.decoder import Decoder, Event
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.generation.stream import AnswerText
from musician.lm.language_model import LanguageModel
from musician.music.grammar import TuneConstraints
from musician.runtime.errors import UserError

#: A constraint remembers its masks, up to hundreds of megabytes over a large vocabulary.
_CONSTRAINTS = 4


class Piece(NamedTuple):
    """What one step added to one answer.

    `tokens` may be some without any text, while half a character is generated. `end` is empty while the answer goes
    on, then `end`, or `length` where it was cut; `error` says why it failed instead.
    """

    handle: int
    text: str
    tokens: int
    end: str = ""
    error: Exception | None = None


class ServedModel:
    """A language model of this process; its methods are called one after the other.

    Its answers are decoded as one batch, each from its own seed; an answer is the one that is generated alone, up to
    the rounding of a matrix product of other size.

    Args:
        name: shown to the user, but not while models are compared blind.
        model: its adapter is folded into the weights.

    Attributes:
        constrains: whether answers can be held to the grammar of tunes.
    """

    def __init__(self, name: str, model: LanguageModel) -> None:
        self.name = name
        self.renderer = model.renderer
        self.forward = prepare(model.merged())
        # The queue bounds the batch, so no answer waits here.
        self._decoder = Decoder(self.forward, model.tokenizer.eos_token_id, rows=2**31)
        self._texts: dict[int, AnswerText] = {}
        self._constraint = lru_cache(_CONSTRAINTS)(partial(answer_constraint, self.renderer))
        self.constrains = self._can_constrain()

    def begin(
        self, messages: Sequence[Message], sampling: Sampling, constraints: TuneConstraints | None
    ) -> tuple[int, int]:
        """Add a conversation to the batch; return the handle of its answer and the tokens of its prompt.

        Raises:
            UserError: prompt and answer do not fit the model's context, or the constraints cannot be met.
        """
        prompt = self.renderer.prompt_ids(messages)
        if len(prompt) + sampling.max_new_tokens > self.forward.positions:
            raise UserError(
                f"the conversation has {len(prompt)} tokens and the answer may have {sampling.max_new_tokens}, "
                f"the model reads {self.forward.positions}: begin a new conversation, or lower max_new_tokens"
            )
        handle = self._decoder.submit(prompt, sampling, self._constraint(constraints) if constraints else None)
        self._texts[handle] = AnswerText(self.renderer)
        return handle, len(prompt)

    def cancel(self, handle: int) -> str:
        """End an answer now, free its memory, and return the text that was held back."""
        self._decoder.cancel(handle)
        answer = self._texts.pop(handle, None)
        return answer.rest() if answer else ""

    def step(self) -> list[Piece]:
        """Generate at least one more token of every answer in the batch."""
        return [self._piece(event) for event in self._decoder.step()]

    def _piece(self, event: Event) -> Piece:
        answer = self._texts[event.handle]
        text = answer.add(event.tokens) if event.tokens else ""
        if event.end is None:
            return Piece(event.handle, text, len(event.tokens))
        del self._texts[event.handle]
        end = "end" if event.end == "stop" else event.end
        return Piece(event.handle, text + answer.rest(), len(event.tokens), end, event.error)

    def _can_constrain(self) -> bool:
        try:
            self._constraint(TuneConstraints())
        except UserError:
            return False
        return True
