"""From final hidden states to logits, as the class of a model makes them, and the check that this holds.

Most classes multiply by the head and do no more. Some scale (Granite, Cohere) or cap (Gemma 2) what comes out, so the
loss, the scorers and the decoder ask `logits_head` and do not call the head themselves.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import MoeModelOutputWithPast

from musician.model.attention import DOCUMENTS, attends_by_document
from musician.model.network import causal_lm, hidden_states, output_head
from musician.runtime.errors import UserError

#: Maps hidden states `[..., width]` to logits `[..., vocabulary]`.
Head = Callable[[Tensor], Tensor]

#: Largest difference of logits, relative to the largest of them.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_TOLERANCE_16_BIT = 5e-2

#: Documents of the check, in tokens.
_DOCUMENTS = (7, 5)


def logits_head(network: nn.Module) -> Head:
    """Return what maps final hidden states to the logits that the model's class would return.

    Args:
        network: a causal LM, with or without a peft wrapper.
    """
    head, adjust = output_head(network), logits_adjustment(network)
    return head if adjust is None else lambda states: adjust(head(states))


def logits_adjustment(network: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return what the model's class does to the output `[..., vocabulary]` of its head; None where it does nothing.

    It is the class's own forward pass, with the body and the head taken out. Whether it does something is tried on
    numbers up to 100: a cap does not show on the small logits of a network that has not been trained.

    Args:
        network: a causal LM, with or without a peft wrapper.
    """
    lm: Any = causal_lm(network)
    probe = torch.linspace(-100, 100, 8)
    with torch.no_grad():
        return None if torch.equal(_after_head(lm, probe), probe) else partial(_after_head, lm)


def _after_head(lm: Any, scores: Tensor) -> Tensor:
    head = lm.get_output_embeddings()
    name = next(name for name, module in lm._modules.items() if module is head)
    body = _Computed(getattr(lm, lm.base_model_prefix), scores.reshape(1, -1, scores.shape[-1]))
    rest = copy.copy(lm)  # shares everything but these two
    rest._modules = {**lm._modules, lm.base_model_prefix: body, name: nn.Identity()}
    # forward, not a call: hooks of the network, such as ZeRO-3's, have already run.
    adjusted: Tensor = type(lm).forward(rest, input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False).logits
    return adjusted.view_as(scores)


class _Computed:
    """A body that has already run."""

    def __init__(self, body: nn.Module, states: Tensor) -> None:
        self._body, self._states = body, states

    def __call__(self, *_: Any, **__: Any) -> MoeModelOutputWithPast:
        return MoeModelOutputWithPast(last_hidden_state=self._states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def check_against_class(network: nn.Module, packed: bool) -> None:
    """Compare the logits of body and head with `model(input_ids).logits` on a few tokens, before training.

    Where rows of several documents differ from the documents one by one, the network is changed to transformers'
    `sdpa` attention, with a line in the log.

    Args:
        network: a causal LM in evaluation mode, not sharded.
        packed: whether rows of several documents will be computed.

    Raises:
        UserError: the logits differ however they are computed.
    """
    half = next((p.dtype for p in network.parameters() if p.dtype in (torch.float16, torch.bfloat16)), None)
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
        _check_head(network, device)
        if packed:
            _check_isolation(network, device)


def _check_head(network: nn.Module, device: torch.device) -> None:
    name, head, (documents, wanted) = type(causal_lm(network)).__name__, logits_head(network), _wanted(network, device)
    if not isinstance(head, nn.Module):
        logging.getLogger(__name__).info(f"logits: {name} scales or caps what its head returns, and so does the loss")
    found = torch.cat([head(hidden_states(network, ids)) for ids in documents], dim=1)
    if not _agree(found, wanted):
        gap = float((found.float() - wanted.float()).abs().max())
        raise UserError(
            f"model {name}: logits of its body and head differ from its own by {gap:.3g}; use another model"
        )


def _check_isolation(network: nn.Module, device: torch.device) -> None:
    lm: Any = causal_lm(network)
    name, head, (documents, wanted) = type(lm).__name__, logits_head(network), _wanted(network, device)
    positions = torch.cat([torch.arange(length, device=device) for length in _DOCUMENTS])[None]

    def isolated() -> bool:
        return _agree(head(hidden_states(network, torch.cat(documents, dim=1), positions, _DOCUMENTS)), wanted)

    if lm.config._attn_implementation == DOCUMENTS and not (attends_by_document(lm.config) and isolated()):
        logging.getLogger(__name__).warning(
            f"attention: sdpa, because {name} has other layers than {DOCUMENTS} computes"
        )
        lm.set_attn_implementation("sdpa")
    if not isolated():
        raise UserError(f"model {name}: documents of one row see one another; set data.packing=false")


def _wanted(network: nn.Module, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Documents, and the logits of the model's own class, one document after another."""
    lm: Any = causal_lm(network)
    documents = [torch.arange(5, 5 + length, device=device)[None] % lm.config.vocab_size for length in _DOCUMENTS]
    return documents, torch.cat([lm(input_ids=ids, use_cache=False).logits for ids in documents], dim=1)


def _agree(found: Tensor, wanted: Tensor) -> bool:
    if not wanted.isfinite().all():
        return True  # the first training step names the weight
    allowed = TOLERANCE.get(wanted.dtype, _TOLERANCE_16_BIT) * float(wanted.abs().max().clamp(min=1.0))
    return float((found.float() - wanted.float()).abs().max()) <= allowed
