"""Attention inside each document of a packed row, and only there: `attn_implementation: documents`.

transformers isolates the documents of a row with an explicit `[length, length]` mask, of which SDPA computes every
block. Here each document is computed by itself, so the work grows with the lengths of the documents and not with that
of the row. Registered through transformers' attention interface: no model code is touched. Calls without
`document_lengths` are transformers' own `sdpa`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask, sliding_window_causal_mask_function

from musician.runtime.hardware import BF16_CAPABILITY

#: Name under `hardware.attn_implementation`.
DOCUMENTS = "documents"


def document_arguments(lengths: Sequence[int], input_ids: Tensor) -> dict[str, Any]:
    """Keyword arguments that pass the documents of a batch to each layer of a transformers body.

    Args:
        lengths: of the documents of the flattened batch, padding as one more at the end of its row.
        input_ids: `[batch, length]`.

    Returns:
        `document_lengths`; on a GPU also their cumulative sum, computed once and not in each layer; and an
        `attention_mask` that is four-dimensional, so that transformers builds none of its own; it is not read.
    """
    found: dict[str, Any] = {
        "document_lengths": list(lengths),
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
    }
    if input_ids.is_cuda:
        ends = [0, *accumulate(lengths)]
        found["document_ends"] = torch.tensor(ends, dtype=torch.int32, device=input_ids.device)
    return found


def attends_by_document(config: Any) -> bool:
    """Whether every layer of a model is causal attention, over all positions or a sliding window of them."""
    kinds = set(getattr(config, "layer_types", None) or ())
    return kinds <= {"full_attention", "sliding_attention"} and not getattr(config, "attention_chunk_size", None)


def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `torch.nn.attention.varlen` computes documents of several lengths in one call there.

    It is FlashAttention: 16 bits, and compute capability 8.0.
    """
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


def _document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: Sequence[int] | None = None,
    document_ends: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Follow transformers' attention interface: `[batch, heads, length, width]` to `[batch, length, heads, width]`."""
    eager = any(kwargs.get(name) is not None for name in ("softcap", "s_aux"))  # what SDPA does not compute
    if document_lengths is None:
        if eager:
            return _eager(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    batch, _, length, width = query.shape
    # [batch, heads, length, width] -> [1, heads, batch * length, width]; a view when the batch is one row.
    states = tuple(s.transpose(0, 1).reshape(1, s.shape[1], -1, s.shape[-1]) for s in (query, key, value))
    window: int | None = kwargs.get("sliding_window")
    if document_ends is not None and not eager and not dropout and has_varlen(query.device, query.dtype):
        mixed = _varlen(states, document_ends, max(document_lengths), scaling, window)
        return mixed.reshape(batch, length, -1, width), None
    pieces = []
    for q, k, v in zip(*(s.split(list(document_lengths), dim=2) for s in states), strict=True):
        mask = _window_mask(q, window, eager)
        if eager:
            pieces.append(_eager(module, q, k, v, mask, dropout=dropout, scaling=scaling, **kwargs)[0])
            continue
        piece = functional.scaled_dot_product_attention(
            *(q, k, v, mask),
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        pieces.append(piece[0].transpose(0, 1))
    return torch.cat(pieces).reshape(batch, length, query.shape[1], -1), None


def _window_mask(query: Tensor, window: int | None, always: bool) -> Tensor | None:
    """Boolean `[1, 1, length, length]` of what a document's tokens see, by transformers' own functions.

    None where that is everything before them, unless `always`.
    """
    length = query.shape[2]
    if not always and (window is None or length <= window):
        return None
    rule = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    return sdpa_mask(1, length, length, mask_function=rule, allow_is_causal_skip=False, device=query.device)


def _eager(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> Tensor:
    """Compute attention by the eager function in the source file of the model: `[batch, length, heads, width]`."""
    if mask is None:
        mask = sdpa_mask(len(query), query.shape[2], key.shape[2], allow_is_causal_skip=False, device=query.device)
    assert mask is not None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min)
    forward = sys.modules[type(module).__module__].eager_attention_forward
    mixed: Tensor = forward(module, query, key, value, mask, **kwargs)[0]
    return mixed


def _varlen(states: Sequence[Tensor], ends: Tensor, longest: int, scaling: float | None, window: int | None) -> Tensor:
    """torch's FlashAttention over documents of several lengths (2.10 or newer); `[tokens, heads, width]`."""
    from torch.nn.attention.varlen import varlen_attn

    query, *_ = states
    q, k, v = (s[0].repeat_interleave(query.shape[1] // s.shape[1], 0).transpose(0, 1) for s in states)
    before = -1 if window is None else window - 1
    mixed: Any = varlen_attn(q, k, v, ends, ends, longest, longest, window_size=(before, 0), scale=scaling)
    return mixed


AttentionInterface.register(DOCUMENTS, _document_attention)
# For calls without document_lengths.
AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)
