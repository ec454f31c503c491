"""Attention inside each document of a packed row, and only there: `attn_implementation: documents`.

transformers isolates the documents of a row with an explicit `[length, length]` mask, of which SDPA computes every
block. Here each document is one causal product of its own, so the work grows with the lengths of the documents, not
with that of the row. Registered through transformers' attention interface: no model code is touched. Everything that
is not a packed row (a cache, a mask, a single document) is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Name under `hardware.attn_implementation`.
DOCUMENTS = "documents"

#: Tokens of a document up to which its soft-max is kept, and queries of it that are computed together.
_SHORT, _BLOCK = 512, 64


def register() -> None:
    """Make `attn_implementation="documents"` known to transformers; again does nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(DOCUMENTS, _document_attention)
    # Callers that tell no boundaries still get sdpa's mask, so nothing leaks on any path.
    AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)


def document_arguments(position_ids: Tensor) -> dict[str, Any]:
    """Keyword arguments that tell the body of a network where documents begin.

    Args:
        position_ids: `[batch, length]`, 0 where a document or the padding begins.

    Returns:
        `cu_seq_lens_q/k` (transformers' names: cumulative lengths over the flattened batch, int32, on the device of
        `position_ids`) and `document_lengths` (the same as a list), computed once a micro-batch and not in each layer,
        and an `attention_mask` of ones, which keeps transformers from building its own mask.
    """
    bounds = _bounds(position_ids)
    return {
        "cu_seq_lens_q": bounds.int(),
        "cu_seq_lens_k": bounds.int(),
        "document_lengths": bounds.diff().tolist(),
        "attention_mask": torch.ones_like(position_ids),
    }


def document_lengths(position_ids: Tensor) -> list[int]:
    """Lengths of the documents of a flattened batch, padding as one more at the end of each row.

    Args:
        position_ids: `[batch, length]`, 0 where a document or the padding begins.
    """
    lengths: list[int] = _bounds(position_ids).diff().tolist()
    return lengths


def _bounds(position_ids: Tensor) -> Tensor:
    """Where each document of a flattened batch begins, and the end of the last."""
    begins = position_ids == 0
    begins[:, 0] = True
    return functional.pad(begins.flatten().nonzero().flatten(), (0, 1), value=position_ids.numel())


def choose_kernel(device: torch.device, dtype: torch.dtype, capability: tuple[int, int] = (0, 0)) -> tuple[str, str]:
    """What computes the attention of many documents here, and why, in one line.

    Args:
        device: where the states are.
        dtype: their type.
        capability: compute capability of a GPU.

    Returns:
        `loop` (SDPA, one document after another) or `varlen` (`torch.nn.attention.varlen`, one call), and the reason.
    """
    if device.type != "cuda":
        return "loop", f"{device.type}: no kernel takes documents of several lengths, each is computed alone"
    if capability < (8, 0):
        return (
            "loop",
            f"sm_{capability[0]}{capability[1]}: FlashAttention needs sm_80, SDPA is called for each document",
        )
    if dtype not in (torch.float16, torch.bfloat16):
        return "loop", f"{dtype}: FlashAttention needs 16 bits, SDPA is called for each document"
    return "varlen", f"sm_{capability[0]}{capability[1]}, {dtype}: torch's varlen_attn, one call for all documents"


def _document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Follow transformers' attention interface: `[batch, heads, length, width]` to `[batch, length, heads, width]`."""
    lengths = kwargs.pop("document_lengths", None)
    if attention_mask is not None or lengths is None or len(lengths) == len(query):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    batch, heads, length, width = query.shape
    # [batch, heads, length, width] -> [1, heads, batch * length, width]; a view when the batch is one row.
    q, k, v = (states.transpose(0, 1).reshape(1, states.shape[1], -1, width) for states in (query, key, value))
    capability = torch.cuda.get_device_capability(query.device) if query.is_cuda else (0, 0)
    if choose_kernel(query.device, query.dtype, capability)[0] == "varlen" and not dropout:
        mixed = _varlen(q, k, v, kwargs["cu_seq_lens_q"], max(lengths), scaling)
    else:
        mixed = loop(q, k, v, lengths, dropout, scaling)
    return mixed.reshape(batch, length, heads, width), None


def loop(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], dropout: float, scaling: float | None
) -> Tensor:
    """Causal attention of one document after another: `[1, heads, tokens, width]` to `[tokens, heads, width]`."""
    if query.device.type == "cpu" and query.dtype == torch.float32 and not dropout and max(lengths) <= _SHORT:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        mixed: Tensor = _ShortDocuments.apply(*(s[0].transpose(0, 1) for s in (query, key, value)), lengths, scale)
        return mixed
    pieces = [
        functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )[0].transpose(0, 1)
        for q, k, v in zip(*(states.split(list(lengths), dim=2) for states in (query, key, value)), strict=True)
    ]
    return torch.cat(pieces)


class _ShortDocuments(torch.autograd.Function):
    """Causal attention of short documents on a CPU: `[tokens, heads, width]` each, to the same shape.

    `_BLOCK` queries at a time meet the keys up to them, as plain matrix products, and the soft-max is kept for the
    backward pass. torch's fused kernel (2.13) keeps no scores, and took 1.6 to 1.9 times as long for documents of 200
    to 500 tokens.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scaling: float) -> Tensor:
        mixed, shares = torch.empty_like(query, memory_format=torch.contiguous_format), []
        hidden = query.new_full((_BLOCK, _BLOCK), float("-inf")).triu_(1)
        for at, seen in _blocks(lengths):
            scores = torch.bmm(_by_keys(query[at], key) * scaling, key[seen].permute(1, 2, 0))
            size = at.stop - at.start
            scores.view(-1, size, scores.shape[-1])[..., -size:].add_(hidden[:size, :size])
            shares.append(torch.softmax(scores, -1))
            _by_tokens(torch.bmm(shares[-1], value[seen].transpose(0, 1)), mixed[at])
        ctx.save_for_backward(query, key, value, *shares)
        ctx.lengths, ctx.scaling = lengths, scaling
        return mixed

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        query, key, value, *shares = ctx.saved_tensors
        grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        grad_key, grad_value = (key.new_zeros(key.shape[1], len(key), key.shape[2]) for _ in range(2))
        for (at, seen), share in zip(_blocks(ctx.lengths), shares, strict=True):
            grad = _by_keys(grad_outputs[0][at], key)
            grad_value[:, seen].baddbmm_(share.transpose(1, 2), grad)
            grad_share = torch.bmm(grad, value[seen].permute(1, 2, 0))
            grad_scores = torch._softmax_backward_data(grad_share, share, -1, share.dtype).mul_(ctx.scaling)
            _by_tokens(torch.bmm(grad_scores, key[seen].transpose(0, 1)), grad_query[at])
            grad_key[:, seen].baddbmm_(grad_scores.transpose(1, 2), _by_keys(query[at], key))
        return grad_query, grad_key.transpose(0, 1), grad_value.transpose(0, 1), None, None


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, and the keys that they and all before them in their document have."""
    start = 0
    for length in lengths:
        for first in range(start, start + length, _BLOCK):
            end = min(first + _BLOCK, start + length)
            yield slice(first, end), slice(start, end)
        start += length


def _by_keys(states: Tensor, key: Tensor) -> Tensor:
    """`[tokens, heads, width]` as `[key heads, (heads of a key) * tokens, width]`."""
    tokens, heads, width = states.shape
    groups = states.view(tokens, key.shape[1], heads // key.shape[1], width)
    return groups.permute(1, 2, 0, 3).reshape(key.shape[1], -1, width)


def _by_tokens(states: Tensor, out: Tensor) -> None:
    """Write what `_by_keys` laid out into `[tokens, heads, width]`."""
    tokens, heads, width = out.shape
    out.copy_(states.view(heads, tokens, width).transpose(0, 1))


def _varlen(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None) -> Tensor:
    """torch's FlashAttention over documents of several lengths (2.10 or newer); same shapes as `loop`."""
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    q, k, v = (
        states[0].repeat_interleave(repeats, 0).transpose(0, 1)
        for states, repeats in ((query, 1), (key, groups), (value, groups))
    )
    # `window_size=(-1, 0)` is causal: everything before, nothing after.
    mixed: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, window_size=(-1, 0), scale=scaling)
    return mixed
