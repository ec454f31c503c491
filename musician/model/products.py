"""Products with the weights of a frozen matrix, by the fastest kernel that torch has for them here.

torch multiplies fp32 matrices with MKL, whose kernels for AMD's processors leave AVX-512 alone. oneDNN, which torch
carries too, took 4 to 14 % less time for a Llama's shapes on such a processor (docs/performance.md). It is reached by
the operator that torch's compiler puts in place of linear layers.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor


@cache
def choose_library() -> tuple[str, str]:
    """What multiplies fp32 matrices on this CPU, and why, in one line.

    Goes by the processor and never by a measurement, so that a run that is continued computes what it computed before.

    Returns:
        `onednn` or `blas` (whatever torch was built with), and the reason.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "blas", "this torch has no oneDNN"
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "blas", "no AVX-512: oneDNN has no faster kernel for both directions"
    if not _is_amd():
        return "blas", "MKL is made for this processor"
    return "onednn", "AMD with AVX-512: MKL's kernels keep to AVX2 there"


def times(states: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """`states @ weight.T`, and `plus` added to it.

    Args:
        states: `[tokens, in]`.
        weight: `[out, in]`.
        plus: `[tokens, out]`.
    """
    if not _is_for_onednn(states, weight, plus):
        return states @ weight.T if plus is None else torch.addmm(plus, states, weight.T)
    linear = torch.ops.mkldnn._linear_pointwise
    product: Tensor = (
        linear(states, weight, None, "none", [], "") if plus is None else linear(states, plus, weight, None, "add")
    )
    return product


def _is_for_onednn(states: Tensor, weight: Tensor, plus: Tensor | None) -> bool:
    """Whether oneDNN has a kernel: for strides of any other kind it falls back to loops a thousand times slower."""
    return (
        states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and choose_library()[0] == "onednn"
        and states.is_contiguous()
        and (weight.is_contiguous() or weight.T.is_contiguous())
        and (plus is None or plus.is_contiguous())
    )


def _is_amd() -> bool:
    """Whether the processor is AMD's, as Linux says; False on other systems."""
    about = Path("/proc/cpuinfo")
    return about.exists() and "AuthenticAMD" in about.read_text()
