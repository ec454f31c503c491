"""What the page needs of a model: its name, the size of a prompt, and an answer piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from musician.data.conversation import Message
from musician.data.render import Renderer
from musician.errors import UserError
from musician.inference.constraint import TuneConstraint, answer_constraint
from musician.inference.sampling import Sampling
from musician.inference.stream import stream
from musician.model.network import causal_lm
from musician.music.grammar import Wishes

#: A constraint remembers its masks, up to hundreds of megabytes over a large vocabulary.
_CONSTRAINTS = 4


class Writer(Protocol):
    """A model that answers conversations.

    Attributes:
        name: shown to the user, but not while models are compared blind.
        constrains: whether answers can be held to the grammar of tunes.
    """

    name: str
    constrains: bool

    def prompt_tokens(self, messages: Sequence[Message], sampling: Sampling) -> int:
        """Tokens of the prompt.

        Raises:
            UserError: prompt and answer do not fit the model's context.
        """
        ...

    def write(
        self, messages: Sequence[Message], sampling: Sampling, wishes: Wishes | None, stopped: Callable[[], bool]
    ) -> Iterator[str]:
        """Yield the pieces of an answer; `stopped` is asked once after every token, and True ends the answer.

        Raises:
            UserError: the wishes cannot be met.
        """
        ...


class ModelWriter:
    """A network of this process; it is asked by one thread at a time.

    Args:
        name: shown to the user.
        network: a causal LM in evaluation mode.
        renderer: renders prompts as in training.
    """

    def __init__(self, name: str, network: Any, renderer: Renderer) -> None:
        self.name = name
        self.network = network
        self.renderer = renderer
        self._constraints: OrderedDict[Wishes, TuneConstraint] = OrderedDict()
        self.constrains = self._can_constrain()

    def prompt_tokens(self, messages: Sequence[Message], sampling: Sampling) -> int:
        """Tokens of the prompt; see `Writer`."""
        count = len(self.renderer.prompt_ids(messages))
        context = getattr(causal_lm(self.network).config, "max_position_embeddings", None)
        if context and count + sampling.max_new_tokens > context:
            raise UserError(
                f"the conversation has {count} tokens and the answer may have {sampling.max_new_tokens}, "
                f"the model reads {context}: begin a new conversation, or lower max_new_tokens"
            )
        return count

    def write(
        self, messages: Sequence[Message], sampling: Sampling, wishes: Wishes | None, stopped: Callable[[], bool]
    ) -> Iterator[str]:
        """Pieces of an answer; see `Writer`."""
        constraint = self._constraint(wishes) if wishes else None
        return stream(self.network, self.renderer, messages, sampling, constraint, stopped)

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
