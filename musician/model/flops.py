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
    attention = 4 * config.num_hidden_layers * width * context
    if not adapters:
        return 6.0 * (blocks + head) + 3.0 * attention
    head_trained = any(p.requires_grad for p in lm.get_output_embeddings().parameters())
    return 4.0 * (blocks + head) + 6.0 * adapters + 3.0 * attention + (2.0 * head if head_trained else 0.0)


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Rate of large matrix products on this device right now, in FLOP/s; random data, since zeros run faster."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds or best == float("inf"):
        _wait(device)
        begun = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
