"""Floating-point operations of training, and the rate of matrix products they are compared with.

Matrix products only (norms, rotary embedding and soft-max excluded), causal attention at its real average context.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from musician.model.network import causal_lm


def training_flops_per_token(network: nn.Module, context: float) -> float:
    """FLOPs one token costs in a training step, forward and backward, without recomputation.

    With P weights of the blocks, E of the head, R of the adapters and `A = 4 * layers * attention width * context`:
    frozen base `4(P+E) + 6R + 3A`, and `2E` more where the head is trained; everything trained `6(P+E) + 3A`. A frozen
    weight needs no gradient of its own, so 6 FLOPs a weight would overstate the work of LoRA by about 1.43.

    Args:
        network: a causal LM, with or without LoRA.
        context: average number of positions a token attends to, itself included.
    """
    lm: Any = causal_lm(network)
    blocks, head, adapters, attention = _parts(network, context)
    if not adapters:
        return 6.0 * (blocks + head) + 3.0 * attention
    head_trained = any(p.requires_grad for p in lm.get_output_embeddings().parameters())
    return 4.0 * (blocks + head) + 6.0 * adapters + 3.0 * attention + (2.0 * head if head_trained else 0.0)


def recomputed_flops_per_token(network: nn.Module, context: float) -> float:
    """FLOPs one token costs again where every layer is checkpointed: `2(P+R) + A`; else 0.

    The hardware's utilisation (HFU) counts them, the model's (MFU) does not. What a fused attention kernel computes
    again in its backward pass is counted in neither.
    """
    if not any(getattr(module, "gradient_checkpointing", False) for module in network.modules()):
        return 0.0
    blocks, _, adapters, attention = _parts(network, context)
    return 2.0 * (blocks + adapters) + attention


def _parts(network: nn.Module, context: float) -> tuple[int, int, int, float]:
    """Weights of the blocks, the head and the adapters, and a token's FLOPs of attention in a forward pass."""
    lm: Any = causal_lm(network)
    config = lm.config
    head = config.vocab_size * config.hidden_size
    adapters = sum(p.numel() for name, p in network.named_parameters() if "lora_" in name)
    embeddings = {id(p) for p in lm.get_input_embeddings().parameters()}
    embeddings |= {id(p) for p in lm.get_output_embeddings().parameters()}
    blocks = sum(
        p.numel()
        for name, p in network.named_parameters()
        if "lora_" not in name and p.ndim == 2 and id(p) not in embeddings
    )
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return blocks, head, adapters, 4 * config.num_hidden_layers * width * context


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Measure the rate of large matrix products on this device, in FLOP/s; random data, because zeros run faster.

    On a CPU by the time its threads computed, so that other work on the cores does not lower it; on a GPU by the wall
    clock.
    """
    size = _product_size(device)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds or best == float("inf"):
        begun = _clock(device)
        torch.mm(left, right)
        best = min(best, _clock(device) - begun)
    return 2.0 * size**3 / best


def describe_peak(peak: float, device: torch.device, dtype: torch.dtype, ranks: int) -> str:
    """What utilisation is compared with, in one line; `peak` is that of one rank, in FLOP/s."""
    size, kind = _product_size(device), str(dtype).removeprefix("torch.")
    how = f"{torch.get_num_threads()} threads, CPU time" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return f"{peak / 1e9:,.0f} GFLOP/s a rank x {ranks}, measured: products of {size} x {size}, {kind}, {how}"


def _product_size(device: torch.device) -> int:
    return 1024 if device.type == "cpu" else 8192


def _clock(device: torch.device) -> float:
    """Seconds that a device has worked."""
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
