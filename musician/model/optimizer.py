"""AdamW with weight decay on matrices only, and LoRA+."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from musician.runtime.errors import UserError


def parameter_groups(
    network: nn.Module, weight_decay: float, lr: float = 1.0, lr_ratio: float = 1.0
) -> list[dict[str, object]]:
    """Split the trainable weights: matrices decay, vectors (norms, biases, DoRA's magnitudes) do not.

    With a ratio other than 1 the B matrices of LoRA, and vectors, learn at `lr_ratio * lr` (LoRA+, arXiv 2402.12354;
    which weights those are is peft's `create_loraplus_optimizer`).

    Raises:
        UserError: a ratio, and no LoRA.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    faster = [p for name, p in named if _dimensions(p) >= 2 and "lora_B" in name and lr_ratio != 1.0]
    if lr_ratio <= 0 or (lr_ratio != 1.0 and not faster):
        raise UserError(f"optimizer.lr_ratio={lr_ratio} must be above 0, and other than 1 only with LoRA")
    apart = {id(p) for p in faster}
    groups = [
        {
            "params": [p for _, p in named if _dimensions(p) >= 2 and id(p) not in apart],
            "weight_decay": weight_decay,
            "lr": lr,
        },
        {"params": faster, "weight_decay": weight_decay, "lr": lr * lr_ratio},
        {"params": [p for _, p in named if _dimensions(p) < 2], "weight_decay": 0.0, "lr": lr * lr_ratio},
    ]
    return [group for group in groups if group["params"]]


def adamw(
    network: nn.Module,
    lr: float,
    betas: Sequence[float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    lr_ratio: float = 1.0,
) -> torch.optim.AdamW:
    """Build AdamW over the trainable weights of a network.

    Defaults are those of the released ChatMusician script (its README gives neither betas nor weight decay).

    Args:
        network: what to train.
        lr: peak rate; with LoRA+ that of the A matrices and of weights trained in full.
        betas: of the moments.
        eps: of the denominator.
        weight_decay: of matrices.
        lr_ratio: rate of LoRA's B matrices over that of A; 1 is plain LoRA.
    """
    groups = parameter_groups(network, weight_decay, lr, lr_ratio)
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)


def _dimensions(parameter: nn.Parameter) -> int:
    """Dimensions of a weight; one that ZeRO-3 has sharded, by a validation before training, is an empty vector."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
