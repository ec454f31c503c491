"""Bytes a rank holds in training: exact for weights, gradients and optimiser state, estimated for activations.

The exact parts are what DeepSpeed 0.19 allocates (tests count the tensors of real ranks); buckets of communication
are a part of their own. Every count is in bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from musician.model.loss import CHUNK
from musician.model.network import causal_lm

#: DeepSpeed 0.19's `nccl_start_alignment_factor`: a flat group is padded to a multiple of this many numbers a rank.
ALIGNMENT = 2

#: Numbers in Lightning's default `reduce_bucket_size`.
BUCKET = 200_000_000

_ADAM_MOMENTS = 2
_FP32 = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank, by part; `logits` includes the fp32 gradient of a trained head."""

    weights: int
    gradients: int
    optimizer: int
    buckets: int = 0
    activations: int = 0
    logits: int = 0

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(asdict(self).values())


def state_bytes(
    groups: Sequence[Sequence[int]],
    frozen: Sequence[int],
    stage: int,
    ranks: int,
    itemsize: int,
    persistence_threshold: int = 100_000,
) -> Memory:
    """Bytes that AdamW training keeps between the backward pass and the step.

    Args:
        groups: for each group of the optimiser the sizes, in numbers, of its trainable weights.
        frozen: sizes of the weights that are not trained.
        stage: ZeRO stage; 0 is no sharding, with gradients and moments in fp32 and no second copy of the weights.
        ranks: how many share the state.
        itemsize: bytes of a number in the type that the network computes in.
        persistence_threshold: stage 3 keeps weights below so many numbers whole as well.
    """
    sizes, kept = [size for group in groups for size in group], list(frozen)
    if stage == 0:
        trained = sum(sizes)
        return Memory(_FP32 * trained + itemsize * sum(kept), _FP32 * trained, _ADAM_MOMENTS * _FP32 * trained)
    if stage == 3:
        shards = [-(-size // ranks) for size in (*sizes, *kept)]
        whole = [s * ranks for s, n in zip(shards, (*sizes, *kept), strict=True) if n <= persistence_threshold]
        share = sum(shards[: len(sizes)])
        weights, bucket = itemsize * (sum(shards) + sum(whole)), BUCKET
    else:
        flat = sum(padded(sum(group), ALIGNMENT * ranks) for group in groups)
        share = flat // ranks
        weights, bucket = itemsize * (flat + sum(kept)), min(BUCKET, sum(sizes))
    return Memory(weights, itemsize * share, (1 + _ADAM_MOMENTS) * _FP32 * share, buckets=itemsize * bucket)


def padded(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def activation_bytes(network: Any, rows: int, length: int, layers: int, checkpointing: bool) -> int:
    """Bytes autograd saves for the backward pass, asked of autograd itself with tensors that hold no memory.

    Counted on the CPU's kernels, whose fused attention saves what the GPU's memory-efficient one does: no scores, with
    adapters in the type of the base, as ZeRO computes in 16 bits.

    Args:
        network: the causal LM, on `meta`, without gradient checkpointing; it is not changed.
        rows: rows of a micro-batch.
        length: positions of a row.
        layers: how many layers the real network has.
        checkpointing: only the input of each layer is kept, and one layer is computed again at a time.
    """
    body: Any = causal_lm(network).model
    all_layers, counts = body.layers, []
    dtype = next(iter(all_layers[0].parameters())).dtype
    for number in (1, 2):
        body.layers = nn.ModuleList(list(all_layers)[:number])
        twin = copy.deepcopy(body)
        with FakeTensorMode():
            counts.append(_saved(_without_memory(twin, dtype), rows, length))
    body.layers = all_layers
    layer, rest = counts[1] - counts[0], 2 * counts[0] - counts[1]
    if not checkpointing:
        return rest + layers * layer
    return rest + layer + layers * rows * length * body.config.hidden_size * dtype.itemsize


def _without_memory(body: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Give a module the fake tensors of the current mode, of the same shapes and of this type, for CPU weights."""
    for module in body.modules():
        for name, old in module._parameters.items():
            if old is not None:
                module._parameters[name] = nn.Parameter(torch.empty(old.shape, dtype=dtype), old.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return body


def _saved(body: nn.Module, rows: int, length: int) -> int:
    """Bytes of the distinct storages that the body saves, its weights left out."""
    own = {parameter.untyped_storage()._cdata for parameter in body.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long)
    mask = torch.ones(rows, 1, length, length, dtype=torch.bool)  # as for packed rows, which it would have to find
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        body(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(storage.nbytes() for storage in seen.values())


def logits_bytes(vocabulary: int, width: int, itemsize: int, head_trained: bool) -> int:
    """Bytes of the loss: a chunk of logits in fp32; below fp32 also in the type of the network, with a gradient in it.

    A trained head's gradient too.
    """
    gradient = vocabulary * width * _FP32 if head_trained else 0
    own = 2 * itemsize if itemsize < _FP32 else 0
    return CHUNK * vocabulary * (own + _FP32) + gradient


def checkpoint_bytes(trainable: int) -> int:
    """Bytes of a checkpoint: trained weights in the state and as an adapter, and Adam's two moments, all in fp32."""
    return _FP32 * trainable * (2 + _ADAM_MOMENTS)
