"""AdamW with weight decay on matrices only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split the trainable weights: matrices decay, vectors (norms, biases) do not."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if _dimensions(p) >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if _dimensions(p) < 2], "weight_decay": 0.0},
    ]


def adamw(
    network: nn.Module,
    lr: float,
    betas: Sequence[float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> torch.optim.AdamW:
    """Build AdamW over the trainable weights of a network.

    Defaults are those of the released ChatMusician script (its README gives neither betas nor weight decay).
    """
    groups = [group for group in parameter_groups(network, weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)


def _dimensions(parameter: nn.Parameter) -> int:
    """Dimensions of a weight; one that ZeRO-3 has sharded, by a validation before training, is an empty vector."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
