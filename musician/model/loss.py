"""Cross entropy at the supervised positions, without ever holding logits of all positions.

A batch of 4,096 tokens and a vocabulary of 49,152 would need 0.8 GB for its fp32 logits and as much for their gradient;
here a chunk of positions at a time is computed, in plain torch, so that any version from 2.10 on runs it (torch's own
`linear_cross_entropy` begins with 2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

#: Positions whose logits exist at one time.
CHUNK = 256

#: fp16 cannot hold the small probabilities in a gradient of logits; the product with the head is made at this scale.
_FP16_SCALE = 1024.0


def summed_nll(hidden: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor], chunk: int = CHUNK) -> Tensor:
    """Sum of the negative log-likelihoods, in nats, of all supervised tokens.

    Args:
        hidden: final hidden states `[batch, length, width]`.
        labels: `[batch, length]`; the state at t-1 predicts the label at t, where that is not negative.
        head: maps `[n, width]` to logits `[n, vocabulary]` (`musician.model.logits`).
        chunk: positions at a time.

    Returns:
        A scalar in fp32; when nothing is supervised 0 that still gives every weight its gradient of 0: ZeRO-1 reduces
        a weight's gradient when the last micro-batch of a step gives it one.
    """
    targets = labels[:, 1:]
    kept = targets >= 0
    states, targets = hidden[:, :-1][kept], targets[kept]
    if _is_plain(head):
        return _LinearNLL.apply(states, head.weight, head.bias, targets, chunk)
    pieces = zip(states.split(chunk), targets.split(chunk), strict=True)
    return torch.stack([checkpoint(_nll_of_chunk, head, s, t, use_reentrant=False) for s, t in pieces]).sum()


def _is_plain(head: Callable[[Tensor], Tensor]) -> TypeGuard[nn.Linear]:
    """Whether the head is one whole matrix: not adapted by LoRA, not partitioned by ZeRO-3."""
    return type(head) is nn.Linear and head.weight.numel() == head.in_features * head.out_features


def _nll_of_chunk(head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(head(states).float(), targets, reduction="sum")


class _LinearNLL(torch.autograd.Function):
    """Summed cross entropy of `states @ weight.T + bias`; gradients are made in the forward pass, chunk by chunk.

    The loss is a scalar, so its gradients are known up to one factor before the backward pass begins, and the logits
    need not be computed twice.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int) -> Tensor:
        dtype = _compute_dtype(states)
        matrix = weight.to(dtype)
        scale = _FP16_SCALE if dtype == torch.float16 else 1.0
        wants = ctx.needs_input_grad
        grad_states = torch.empty_like(states) if wants[0] else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants[1] else None
        grad_bias = (
            torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if bias is not None and wants[2] else None
        )
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        shares = torch.empty(min(chunk, len(targets)), len(weight), device=states.device)
        scores = shares if dtype == torch.float32 else torch.empty_like(shares, dtype=dtype)
        for start in range(0, len(targets), chunk):
            rows, wanted = states[start : start + chunk].to(dtype), targets[start : start + chunk, None]
            logits, grad_logits = scores[: len(rows)], shares[: len(rows)]
            torch.mm(rows, matrix.T, out=logits)
            if bias is not None:
                logits += bias
            # In fp32 the soft-max overwrites the logits. The normaliser is that of the likeliest token, of which the
            # share is at least one in the vocabulary: a target's own may be too small for a float to hold.
            likeliest, own = logits.amax(-1).float(), logits.gather(-1, wanted).squeeze(-1).float()
            torch.softmax(logits, -1, dtype=torch.float32, out=grad_logits)
            total += (likeliest - grad_logits.amax(-1).log() - own).sum()
            if not any(wants[:3]):
                continue
            grad_logits.scatter_add_(-1, wanted, -torch.ones_like(wanted, dtype=torch.float32))
            scaled = (grad_logits * scale).to(dtype) if scale != 1.0 else grad_logits.to(dtype)
            if grad_states is not None:
                grad_states[start : start + chunk] = ((scaled @ matrix).float() / scale).to(states.dtype)
            if grad_weight is not None:
                grad_weight += (scaled.T @ rows).float() / scale
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
        ctx.gradients = (grad_states, grad_weight, grad_bias)
        ctx.dtypes = (states.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        factor = grad_outputs[0]
        scaled = [
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = None
        return (*scaled, None, None)


def _compute_dtype(states: Tensor) -> torch.dtype:
    """The matrix product's type: autocast's where it is on, else that of the states."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
