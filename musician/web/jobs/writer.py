"""What the page needs of a model: its name, and answers written side by side, a few tokens a step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.constraint import TuneConstraint, answer_constraint
from musician.generation.decoder import Decoder, Event
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.generation.stream import AnswerText
from musician.music.grammar import Wishes
from musician.runtime.errors import UserError

#: A constraint remembers its masks, up to hundreds of megabytes over a large vocabulary.
_CONSTRAINTS = 4


class Begun(NamedTuple):
    """An answer that was begun: how the writer calls it, and the tokens of its prompt."""

    handle: int
    prompt_tokens: int


class Written(NamedTuple):
    """What a step wrote of one answer.

    `tokens` may be some without any text, while half a character is written. `end` is empty while the answer goes on,
    then `end`, or `length` where it was cut; `error` says why it failed instead.
    """

    handle: int
    text: str
    tokens: int
    end: str = ""
    error: Exception | None = None


class Writer(Protocol):
    """A model that answers many conversations at a time; all of it is called from one thread.

    Attributes:
        name: shown to the user, but not while models are compared blind.
        constrains: whether answers can be held to the grammar of tunes.
    """

    name: str
    constrains: bool

    def begin(self, messages: Sequence[Message], sampling: Sampling, wishes: Wishes | None) -> Begun:
        """Take a conversation up; the steps that follow write the answer.

        Raises:
            UserError: prompt and answer do not fit the model's context, or the wishes cannot be met.
        """
        ...

    def cancel(self, handle: int) -> str:
        """End an answer now, free what it holds, and return what it held back of its text."""
        ...

    def step(self) -> list[Written]:
        """Go on with all answers under way."""
        ...


class ModelWriter:
    """A network of this process.

    Its answers are written together, each from its own seed; on a CPU in fp32 an answer is, bit for bit, the one that
    is written alone.

    Args:
        name: shown to the user.
        network: a causal LM in evaluation mode.
        renderer: renders prompts as in training.
    """

    def __init__(self, name: str, network: Any, renderer: Renderer) -> None:
        self.name = name
        self.renderer = renderer
        self.forward = prepare(network)
        eos = renderer.tokenizer.eos_token_id
        # How many are written at a time is the queue's business, so none waits here.
        self._decoder = Decoder(self.forward, eos, rows=2**31)
        self._texts: dict[int, AnswerText] = {}
        self._constraints: OrderedDict[Wishes, TuneConstraint] = OrderedDict()
        self.constrains = self._can_constrain()

    def begin(self, messages: Sequence[Message], sampling: Sampling, wishes: Wishes | None) -> Begun:
        """Take a conversation up; see `Writer`."""
        prompt = self.renderer.prompt_ids(messages)
        if len(prompt) + sampling.max_new_tokens > self.forward.positions:
            raise UserError(
                f"the conversation has {len(prompt)} tokens and the answer may have {sampling.max_new_tokens}, "
                f"the model reads {self.forward.positions}: begin a new conversation, or lower max_new_tokens"
            )
        handle = self._decoder.submit(prompt, sampling, self._constraint(wishes) if wishes else None)
        self._texts[handle] = AnswerText(self.renderer)
        return Begun(handle, len(prompt))

    def cancel(self, handle: int) -> str:
        """End an answer now; see `Writer`."""
        self._decoder.cancel(handle)
        answer = self._texts.pop(handle, None)
        return answer.rest() if answer else ""

    def step(self) -> list[Written]:
        """Go on with all answers under way; see `Writer`."""
        return [self._written(event) for event in self._decoder.step()]

    def _written(self, event: Event) -> Written:
        answer = self._texts[event.handle]
        text = answer.add(event.tokens) if event.tokens else ""
        if event.end is None:
            return Written(event.handle, text, len(event.tokens))
        del self._texts[event.handle]
        end = "end" if event.end == "stop" else event.end
        return Written(event.handle, text + answer.rest(), len(event.tokens), end, event.error)

    def _constraint(self, wishes: Wishes) -> TuneConstraint:
        if wishes not in self._constraints:
            self._constraints[wishes] = answer_constraint(self.renderer, wishes)
            if len(self._constraints) > _CONSTRAINTS:
                self._constraints.popitem(last=False)
        self._constraints.move_to_end(wishes)
        return self._constraints[wishes]

    def _can_constrain(self) -> bool:
        try:
            self._constraint(Wishes())
        except UserError:
            return False
        return True
