"""LoRA as peft configures it: names are checked, and what is trained is fp32."""

from __future__ import annotations

from typing import Any

from torch import nn

from musician.model.network import causal_lm
from musician.runtime.errors import UserError


def attach_lora(network: nn.Module, config: Any | None) -> nn.Module:
    """Wrap a network with adapters; None trains every weight instead.

    Embedding and head named in `modules_to_save` are trained in full and saved with the adapter. Where the model ties
    them they stay tied. `lora_alpha` is never derived from `r`: a sweep over ranks keeps it fixed.

    Args:
        network: a causal LM.
        config: a `peft.LoraConfig`.

    Raises:
        UserError: the model has no module of a name in the config.
    """
    if config is None:
        return _trained_in_fp32(network)
    from peft import get_peft_model

    if getattr(network.config, "tie_word_embeddings", False) and config.modules_to_save:
        config.ensure_weight_tying = True
    _check_names(network, config)
    return _trained_in_fp32(get_peft_model(network, config))


def _trained_in_fp32(network: nn.Module) -> nn.Module:
    """Widen what is trained, where the frozen base is stored in half precision."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return network


def trainable_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Number of trainable and of all weights; a weight that is shared counts once."""
    parameters = list(network.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _check_names(network: nn.Module, config: Any) -> None:
    present = {name.rsplit(".", 1)[-1] for name, _ in causal_lm(network).named_modules()}
    for field in ("target_modules", "modules_to_save"):
        wanted = getattr(config, field)
        names = {name.rsplit(".", 1)[-1] for name in wanted} if isinstance(wanted, list | set | tuple) else set()
        missing = sorted(names - present)
        if missing:
            linear = sorted({n.rsplit(".", 1)[-1] for n, m in network.named_modules() if isinstance(m, nn.Linear)})
            raise UserError(f"lora.{field}: this model has no module {missing}; its linear layers are {linear}")
