"""What a job will take, before it is launched: `python -m musician.plan +experiment=sft hardware=8xv100`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import build_selected, command
from musician.cli.published import show_published
from musician.cli.tables import print_table
from musician.runtime.errors import UserError


@command("plan")
def main(cfg: DictConfig) -> None:
    """Compute, print, write plan.json; refuse what does not fit. With `paper=true` compare with what is published."""
    if cfg.paper:
        show_published(cfg)
        return
    plan = make_plan(cfg)
    target = Path(cfg.output_dir) / "plan.json"
    target.write_text(json.dumps(plan, indent=2) + "\n")
    show(plan)
    print(f"plan: {target}")
    refuse_misfit(plan, cfg.hardware.name)


def make_plan(cfg: DictConfig) -> dict[str, Any]:
    """Memory, FLOPs, rate and batch of a job as plain values; bytes a rank."""
    import torch

    from musician.model.flops import training_flops_per_token
    from musician.model.lora import attach_lora, count_parameters
    from musician.model.memory import checkpoint_bytes
    from musician.model.shapes import meta_network, shape

    hardware = instantiate(cfg.hardware, _convert_="all")
    hardware.check_planned()
    accumulation = hardware.accumulation_steps(cfg.global_batch_size)
    config = shape(OmegaConf.to_container(cfg.model.network, resolve=True))  # type: ignore[arg-type]
    lora = build_selected({"lora": cfg.get("lora") or {}}).get("lora")
    with torch.device("meta"):
        network = attach_lora(meta_network(config, hardware.dtype), lora)
    trainable, total = count_parameters(network)
    memory = rank_memory(cfg, hardware, config, network)
    flops = training_flops_per_token(network, cfg.data.max_length / 2)
    room = None if hardware.memory_gib is None else int(hardware.memory_gib * 2**30)
    fits = room is None or memory.total <= room
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
        "fits": fits,
        "alternatives": {} if fits else alternatives(cfg, hardware, config, network, room),
        "stage": hardware.zero_stage or 0,
        "scaling": scaling(cfg, hardware, network, flops),
    }


def persistence_threshold(hardware: Any) -> int:
    """Return the size in numbers up to which stage 3 does not shard a weight."""
    strategy = hardware.strategy if isinstance(hardware.strategy, Mapping) else {}
    return int(strategy.get("persistence_threshold", 100_000))


def bytes_of_number(hardware: Any) -> int:
    """Bytes of a number in the type that the network computes in."""
    return 4 if hardware.dtype == "float32" else 2


def scaling(cfg: DictConfig, hardware: Any, network: Any, flops: float) -> list[dict[str, Any]]:
    """An optimiser step of larger clusters at each ZeRO stage; empty where rates are not known.

    Raises:
        UserError: a cluster whose last node is not full.
    """
    if None in (hardware.peak_flops, hardware.card_bandwidth, hardware.node_bandwidth):
        return []
    part = [cards for cards in cfg.clusters if cards > cfg.cards_per_node and cards % cfg.cards_per_node]
    if part:
        raise UserError(f"clusters={part}: not a multiple of cards_per_node={cfg.cards_per_node}")
    stages = sorted({hardware.zero_stage or 0, 1, 2, 3})
    steps = [cluster_step(cfg, hardware, network, flops, stage, cards) for stage in stages for cards in cfg.clusters]
    return [{**asdict(s), "efficiency": s.efficiency, "tokens_per_second": s.tokens_per_second} for s in steps]


def cluster_step(cfg: DictConfig, hardware: Any, network: Any, flops: float, stage: int, cards: int) -> Any:
    """One optimiser step of so many cards, each with as many rows as in the planned job; rows are full."""
    from musician.model.communication import ClusterStep, step_traffic

    accumulation = hardware.accumulation_steps(cfg.global_batch_size)
    traffic = step_traffic(
        *(network, stage, cards, bytes_of_number(hardware)),
        accumulation=accumulation,
        checkpointing=hardware.gradient_checkpointing,
        persistence_threshold=persistence_threshold(hardware),
    )
    in_node = min(cards, cfg.cards_per_node)
    rows = hardware.micro_batch_size * accumulation * cards
    slow, fast = (flops * rows * cfg.data.max_length / cards / (mfu * hardware.peak_flops) for mfu in cfg.mfu)
    return ClusterStep(
        stage=stage,
        cards=cards,
        rows=rows,
        sent=traffic.sent(cards),
        seconds_communicating=traffic.seconds(
            cards // in_node, in_node, hardware.card_bandwidth, hardware.node_bandwidth
        ),
        seconds_computing=(slow, fast),
        tokens=rows * cfg.data.max_length,
    )


def rank_memory(cfg: DictConfig, hardware: Any, config: Any, network: Any) -> Any:
    """Bytes of one rank, by part."""
    from musician.model.memory import activation_bytes, logits_bytes, state_bytes
    from musician.model.network import output_head
    from musician.model.optimizer import parameter_groups

    itemsize = bytes_of_number(hardware)
    groups = [[p.numel() for p in group["params"]] for group in parameter_groups(network, 0.0)]  # type: ignore[attr-defined]
    frozen = [p.numel() for p in network.parameters() if not p.requires_grad]
    threshold = persistence_threshold(hardware)
    state = state_bytes(groups, frozen, hardware.zero_stage or 0, hardware.world_size, itemsize, threshold)
    rows, length = hardware.micro_batch_size, cfg.data.max_length
    return replace(
        state,
        activations=activation_bytes(network, rows, length, config.num_hidden_layers, hardware.gradient_checkpointing),
        logits=logits_bytes(
            config.vocab_size,
            config.hidden_size,
            itemsize,
            output_head(network).weight.requires_grad,  # type: ignore[arg-type]
        ),
    )


def alternatives(cfg: DictConfig, hardware: Any, config: Any, network: Any, room: int | None) -> dict[str, bool]:
    """Whether changes towards less memory would fit: each alone, then two and three at once, until some do."""
    changes: dict[str, dict[str, Any]] = {}
    if not hardware.gradient_checkpointing:
        changes["hardware.gradient_checkpointing=true"] = {"gradient_checkpointing": True}
    for rows in dict.fromkeys((hardware.micro_batch_size // 2, 1)):
        if 0 < rows < hardware.micro_batch_size and cfg.global_batch_size % (rows * hardware.world_size) == 0:
            changes[f"hardware.micro_batch_size={rows}"] = {"micro_batch_size": rows}
    if isinstance(hardware.strategy, Mapping) and hardware.zero_stage < 3:
        changes["hardware.strategy.stage=3"] = {"strategy": {**hardware.strategy, "stage": 3}}
    found: dict[str, bool] = {}
    for count in range(1, len(changes) + 1):
        for names in combinations(changes, count):
            together = {key: value for name in names for key, value in changes[name].items()}
            if len(together) < count:
                continue  # two sizes of one thing
            changed = replace(hardware, **together)
            found[" ".join(names)] = rank_memory(cfg, changed, config, network).total <= (room or 0)
        if any(found.values()):
            break
    return found


def refuse_misfit(plan: dict[str, Any], name: str) -> None:
    """Refuse a job that needs more memory than its card has.

    Raises:
        UserError: naming the nearest change that fits.
    """
    if plan["fits"]:
        return
    fitting = [change for change, fits in plan["alternatives"].items() if fits]
    hint = f"use {fitting[0]}" if fitting else "no micro-batch, checkpointing or ZeRO stage makes it fit"
    needed, room = plan["memory"]["total"] / 2**30, plan["card_bytes"] / 2**30
    raise UserError(f"hardware={name}: a rank needs {needed:.1f} GiB and has {room:.0f}; {hint}")


def show(plan: dict[str, Any]) -> None:
    """Print the table and what follows from it."""
    sizes = [(part, f"{size / 2**30:.3f}") for part, size in plan["memory"].items()]
    print_table("memory of a rank", ("part", "GiB"), sizes, left=("part",))
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
    if plan["scaling"]:
        show_scaling(plan)


def show_scaling(plan: dict[str, Any]) -> None:
    """Print what communication leaves of larger clusters."""
    rows = []
    for step in plan["scaling"]:
        low, high = sorted(100 * share for share in step["efficiency"])
        least, most = (rate / 1000 for rate in step["tokens_per_second"])
        rows.append(
            (
                f"{step['stage']}{' *' if step['stage'] == plan['stage'] else '  '}",
                *(step["cards"], f"{step['rows']:,}", f"{step['sent'] / 1e9:.2f}"),
                *(f"{step['seconds_communicating']:.3f}", f"{low:.1f}-{high:.1f}", f"{least:,.0f}-{most:,.0f}"),
            )
        )
    columns = ("ZeRO", "cards", "rows", "GB sent", "s on links", "efficiency %", "1000 tokens/s")
    print_table("an optimiser step of a cluster, nothing overlapped", columns, rows)
    slow, fast = plan["scaling"][0]["seconds_computing"]
    batch = plan["batch"]["global_batch_size"]
    print(f"* this job's stage; a step computes for {fast:.2f} to {slow:.2f} s, a card sends so many GB (10^9 bytes)")
    print("rows grow with the cards, which changes the effective batch size:", end=" ")
    print(f"global_batch_size={batch} employs at most {batch} cards")


if __name__ == "__main__":
    main()
