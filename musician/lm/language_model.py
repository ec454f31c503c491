"""A language model as one object: network, renderer, precision and where it came from."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from musician.data.rendering.render import Renderer
from musician.lm.source import ModelSource
from musician.model.merge import fold


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network with what is needed to ask it.

    Attributes:
        network: a causal LM in evaluation mode, with its adapter attached where it has one.
        renderer: renders prompts as in training.
        precision: as Lightning names it: `32-true`, `bf16-mixed`, `bf16-true`, `16-mixed` or `16-true`.
        source: where the parts came from; None for a network that was not read from a file.
    """

    network: Any
    renderer: Renderer
    precision: str = "32-true"
    source: ModelSource | None = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the renderer."""
        return self.renderer.tokenizer

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def merged(self) -> LanguageModel:
        """Return the model with its adapter folded into the weights, in place."""
        return replace(self, network=fold(self.network))

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes: autocast where the precision is mixed."""
        if not self.precision.endswith("-mixed"):
            return nullcontext()
        dtype = torch.bfloat16 if self.precision.startswith("bf16") else torch.float16
        return torch.autocast(self.device.type, dtype)
