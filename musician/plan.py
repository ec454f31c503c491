"""What a job will take, before it is launched: `python -m musician.plan +experiment=sft hardware=8xv100`."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.launch import build_selected, door


@door("plan")
def main(cfg: DictConfig) -> None:
    """Compute, print, write plan.json; refuse what does not fit."""
    plan = make_plan(cfg)
    target = Path(cfg.output_dir) / "plan.json"
    target.write_text(json.dumps(plan, indent=2) + "\n")
    show(plan)
    print(f"plan: {target}")
    refuse_misfit(plan, cfg.hardware.name)


def make_plan(cfg: DictConfig) -> dict[str, Any]:
    """Memory, FLOPs, rate and batch of a job as plain values; bytes a rank."""
    from musician.model.flops import training_flops_per_token
    from musician.model.lora import attach_lora, count_parameters
    from musician.model.memory import checkpoint_bytes
    from musician.model.shapes import meta_network, shape

    hardware = instantiate(cfg.hardware, _convert_="all")
    accumulation = hardware.accumulation_steps(cfg.global_batch_size)
    config = shape(OmegaConf.to_container(cfg.model.network, resolve=True))  # type: ignore[arg-type]
    lora = build_selected({"lora": cfg.get("lora") or {}}).get("lora")
    network = attach_lora(meta_network(config, hardware.dtype), lora)
    trainable, total = count_parameters(network)
    memory = rank_memory(cfg, hardware, config, network)
    flops = training_flops_per_token(network, cfg.data.max_length / 2)
    room = None if hardware.memory_gib is None else int(hardware.memory_gib * 2**30)
    rates = (
        [mfu * hardware.peak_flops * hardware.world_size / flops for mfu in cfg.mfu] if hardware.peak_flops else None
    )
    return {
        "memory": {**asdict(memory), "total": memory.total},
        "card_bytes": room,
        "checkpoint_bytes": checkpoint_bytes(trainable),
        "trainable": trainable,
        "weights": total,
        "flops_per_token": flops,
        "tokens_per_second": rates,
        "hours_per_billion_tokens": [1e9 / rate / 3600 for rate in reversed(rates)] if rates else None,
        "mfu": list(cfg.mfu),
        "batch": {
            "micro_batch_size": hardware.micro_batch_size,
            "accumulation": accumulation,
            "ranks": hardware.world_size,
            "global_batch_size": cfg.global_batch_size,
        },
        "fits": alternatives(cfg, hardware, config, network, room) if room else {},
    }


def rank_memory(cfg: DictConfig, hardware: Any, config: Any, network: Any) -> Any:
    """Bytes of one rank, by part."""
    from musician.model.memory import activation_bytes, logits_bytes, state_bytes
    from musician.model.network import output_head
    from musician.model.optimizer import parameter_groups

    strategy = hardware.strategy if isinstance(hardware.strategy, Mapping) else {"stage": 0}
    itemsize = 4 if hardware.dtype == "float32" else 2
    groups = [[p.numel() for p in group["params"]] for group in parameter_groups(network, 0.0)]  # type: ignore[attr-defined]
    frozen = [p.numel() for p in network.parameters() if not p.requires_grad]
    stage, threshold = int(strategy.get("stage", 2)), int(strategy.get("persistence_threshold", 100_000))
    state = state_bytes(groups, frozen, stage, hardware.world_size, itemsize, threshold)
    rows, length = hardware.micro_batch_size, cfg.data.max_length
    alike = (
        copy.deepcopy(network).to(next(p for p in network.parameters() if not p.requires_grad).dtype)
        if frozen
        else network
    )
    return replace(
        state,
        activations=activation_bytes(alike, rows, length, config.num_hidden_layers, hardware.gradient_checkpointing),
        logits=logits_bytes(
            config.vocab_size,
            config.hidden_size,
            itemsize,
            output_head(network).weight.requires_grad,  # type: ignore[arg-type]
        ),
    )


def alternatives(cfg: DictConfig, hardware: Any, config: Any, network: Any, room: int) -> dict[str, bool]:
    """Whether the job fits as it is, and which single changes towards less memory would fit."""
    changes: dict[str, dict[str, Any]] = {"as asked": {}}
    if not hardware.gradient_checkpointing:
        changes["hardware.gradient_checkpointing=true"] = {"gradient_checkpointing": True}
    for rows in (hardware.micro_batch_size // 2, 1):
        if 0 < rows < hardware.micro_batch_size:
            changes[f"hardware.micro_batch_size={rows}"] = {"micro_batch_size": rows}
    if isinstance(hardware.strategy, Mapping):
        changes["hardware.strategy.stage=3"] = {"strategy": {**hardware.strategy, "stage": 3}}
    return {
        name: rank_memory(cfg, replace(hardware, **change), config, network).total <= room
        for name, change in changes.items()
    }


def refuse_misfit(plan: dict[str, Any], name: str) -> None:
    """Refuse a job that needs more memory than its card has.

    Raises:
        UserError: naming the nearest change that fits.
    """
    from musician.errors import UserError

    if plan["fits"].get("as asked", True):
        return
    fitting = [change for change, fits in plan["fits"].items() if fits]
    hint = f"use {fitting[0]}" if fitting else "no single change of micro-batch, checkpointing or stage fits"
    needed, room = plan["memory"]["total"] / 2**30, plan["card_bytes"] / 2**30
    raise UserError(f"hardware={name}: a rank needs {needed:.1f} GiB and has {room:.0f}; {hint}")


def show(plan: dict[str, Any]) -> None:
    """Print the table and what follows from it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="memory of a rank", box=box.SIMPLE_HEAD)
    table.add_column("part")
    table.add_column("GiB", justify="right")
    for part, size in plan["memory"].items():
        table.add_row(part, f"{size / 2**30:.3f}")
    Console(highlight=False).print(table)
    batch = plan["batch"]
    print(
        "micro-batch {micro_batch_size} x accumulation {accumulation} x ranks {ranks} = {global_batch_size}".format(
            **batch
        )
    )
    print(
        f"trainable weights {plan['trainable']:,} of {plan['weights']:,}; checkpoint {plan['checkpoint_bytes']:,} bytes"
    )
    print(f"{plan['flops_per_token'] / 1e9:.2f} GFLOP a token")
    if plan["tokens_per_second"]:
        (slow, fast), (low, high) = plan["tokens_per_second"], plan["hours_per_billion_tokens"]
        print(f"at {plan['mfu'][0]:.0%} to {plan['mfu'][1]:.0%} MFU: {slow:,.0f} to {fast:,.0f} tokens/s, ", end="")
        print(f"{low:.1f} to {high:.1f} hours a billion tokens")


if __name__ == "__main__":
    main()
