"""Products with frozen weights, by the fastest kernels that torch has for them here; the only place that calls oneDNN.

torch multiplies fp32 matrices with MKL, whose kernels for AMD's processors leave AVX-512 alone. oneDNN, which torch
carries too, took 4 to 14 % less time for a Llama's shapes on such a processor (docs/performance.md). It is reached by
the operators that torch's compiler puts in place of linear layers whose weights are frozen.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

#: oneDNN, and the layer of torch above it, keep a kernel for every shape that they multiplied, 1024 unless told
#: otherwise. Documents and answers are of all lengths: memory would grow by some 5 MB for each (docs/performance.md).
_KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


@cache
def choose_library() -> tuple[str, str]:
    """What multiplies fp32 matrices on this CPU, and why, in one line.

    Goes by the processor and never by a measurement, so that a run that is continued computes what it computed before.

    Returns:
        `onednn` or `blas` (whatever torch was built with), and the reason.
    """
    if not has_onednn():
        return "blas", "this torch has no oneDNN"
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "blas", "no AVX-512: oneDNN has no faster kernel for both directions"
    if not _is_amd():
        return "blas", "MKL is made for this processor"
    return "onednn", "AMD with AVX-512: MKL's kernels keep to AVX2 there"


@cache
def has_onednn() -> bool:
    """Whether this torch carries oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def times(states: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """`states @ weight.T`, and `plus` added to it.

    Args:
        states: `[tokens, in]`.
        weight: `[out, in]`.
        plus: `[tokens, out]`.
    """
    if _is_for_onednn(states, weight, plus):
        return by_onednn(states, weight, plus)
    return states @ weight.T if plus is None else torch.addmm(plus, states, weight.T)


def packed(weight: Tensor, rows: int) -> Tensor:
    """A copy of fp32 weights `[out, in]` in oneDNN's own layout, for `by_onednn` with about so many rows."""
    _keep_few_kernels()
    layout: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return layout


def by_onednn(states: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """`times` in oneDNN, which autograd does not follow; `weight` may be `packed`.

    All are contiguous, `weight` in either order: for anything else oneDNN is a thousand times slower.
    """
    _keep_few_kernels()
    linear = torch.ops.mkldnn._linear_pointwise
    # The overloads by name: to choose between them takes torch longer than to find the kernel.
    product: Tensor = (
        linear.default(states, weight, None, "none", [], "")
        if plus is None
        else linear.binary(states, plus, weight, None, "add")
    )
    return product


def _is_for_onednn(states: Tensor, weight: Tensor, plus: Tensor | None) -> bool:
    """Whether oneDNN has a kernel, and no gradient is wanted, which it would lose without a word."""
    wanted = any(tensor is not None and tensor.requires_grad for tensor in (states, weight, plus))
    return (
        states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and choose_library()[0] == "onednn"
        and not (wanted and torch.is_grad_enabled())
        and states.is_contiguous()
        and (weight.is_contiguous() or weight.T.is_contiguous())
        and (plus is None or plus.is_contiguous())
    )


@cache
def _keep_few_kernels() -> None:
    """Bound the kernels that are kept; oneDNN asks when it first multiplies."""
    for name, capacity in _KERNELS_KEPT.items():
        os.environ.setdefault(name, capacity)


def _is_amd() -> bool:
    """Whether the processor is AMD's, as Linux says; False on other systems."""
    about = Path("/proc/cpuinfo")
    return about.exists() and "AuthenticAMD" in about.read_text()
