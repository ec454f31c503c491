"""The training state in `state.ckpt`: Lightning's plain format, whatever the number of ranks and the ZeRO stage.

ZeRO shards the fp32 weights and what the optimizer keeps of them. Saving gathers them weight by weight on rank 0,
loading shards them again, so a state continues on any number of ranks, at any ZeRO stage and without ZeRO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, distributed, nn

from musician.model.network import gathered

#: Key of what a ZeRO engine counts and, in fp16, of its loss scale.
ENGINE = "zero_engine"


def gather_state(checkpoint: dict[str, Any], engine: Any, module: Any) -> None:
    """Put the whole weights and optimizer state of a ZeRO engine into Lightning's checkpoint; a collective call.

    Args:
        checkpoint: as Lightning dumps it; complete on rank 0 afterwards.
        engine: a DeepSpeed engine.
        module: the CausalLMModule that it trains.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    optimizer, plain = engine.optimizer, module.new_optimizer()
    shard: dict[str, Any] = next(iter(optimizer.optimizer.state.values()), {})
    _link_states(optimizer)
    weights, states = {}, {}
    for index, (name, weight) in enumerate(_in_order(module, plain)):
        # DeepSpeed's key of the weight itself is None.
        whole = {key: safe_get_full_optimizer_state(weight, key) for key in (None, *_moments(shard))}
        if distributed.get_rank() == 0:
            weights[name] = whole.pop(None).cpu()
            states[index] = {key: whole[key].cpu() if key in whole else deepcopy(shard[key]) for key in shard}
    groups = plain.state_dict()["param_groups"]
    _copy_settings(optimizer.param_groups, groups)
    checkpoint |= {"state_dict": weights, "optimizer_states": [{"state": states, "param_groups": groups}]}
    checkpoint[ENGINE] = {"global_steps": engine.global_steps, "skipped_steps": engine.skipped_steps}
    if engine.fp16_enabled():
        checkpoint[ENGINE]["loss_scaler"] = dict(vars(optimizer.loss_scaler))


def shard_state(checkpoint: Mapping[str, Any], engine: Any, module: Any) -> None:
    """Load the weights and optimizer state of a checkpoint into a ZeRO engine; a collective call.

    Args:
        checkpoint: as `gather_state` or a strategy without ZeRO wrote it.
        engine: a DeepSpeed engine that has not taken a step.
        module: the CausalLMModule that it trains.
    """
    optimizer, saved = engine.optimizer, checkpoint["optimizer_states"][0]
    states: dict[int, dict[str, Any]] = saved["state"]
    by_stage = ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups")  # of ZeRO-3, of ZeRO-1 and 2
    flats = next(getattr(optimizer, name) for name in by_stage if hasattr(optimizer, name))
    sample: dict[str, Any] = next(iter(states.values()), {})
    moments = _moments(sample)
    if sample:
        for flat in flats:
            optimizer.optimizer.state[flat] = {
                key: torch.zeros_like(flat) if key in moments else deepcopy(value) for key, value in sample.items()
            }
        _link_states(optimizer)
    for index, (name, weight) in enumerate(_in_order(module, module.new_optimizer())):
        value = checkpoint["state_dict"][name]
        with torch.no_grad(), gathered([weight], modifier_rank=0):
            weight.copy_(value)
        _set_shard(weight, value, None)
        for key in moments:
            _set_shard(weight, states[index][key], key)
    _copy_settings(saved["param_groups"], optimizer.param_groups)
    counts = checkpoint.get(ENGINE, {})
    if engine.fp16_enabled():
        vars(optimizer.loss_scaler).update(counts.get("loss_scaler", {}))
    engine.global_steps = counts.get("global_steps", checkpoint["global_step"])
    engine.global_samples = engine.global_steps * engine.train_batch_size()
    engine.skipped_steps = counts.get("skipped_steps", 0)


def recount_batches(checkpoint: Mapping[str, Any], accumulation: int) -> None:
    """Make a state continue at the same step where a step has another number of micro-batches than before.

    Lightning counts micro-batches; the position in the data counts steps.
    """
    step = next((state["step"] for state in checkpoint.values() if _is_position(state)), 0)
    if not step:
        return
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    before = progress["current"]["ready"]
    for counts in (progress["current"], progress["total"]):
        more = counts["ready"] * step * accumulation // before - counts["ready"]
        counts.update({name: count + more for name, count in counts.items()})


def _is_position(state: Any) -> bool:
    return isinstance(state, Mapping) and state.keys() == {"epoch", "step"}


def _in_order(module: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the trained weights with their names, as an optimizer numbers them."""
    names = {id(weight): name for name, weight in module.named_parameters()}
    for group in optimizer.param_groups:
        for weight in group["params"]:
            yield names[id(weight)], weight


def _moments(state: Mapping[str, Any]) -> list[str]:
    """Return the keys of what an optimizer keeps of each number of a weight."""
    return [key for key, value in state.items() if isinstance(value, Tensor) and value.dim() > 0]


def _link_states(optimizer: Any) -> None:
    """Let DeepSpeed's functions of ZeRO-1 and 2 find the optimizer's states.

    By itself DeepSpeed does so after the step of the first group, when the other groups have none yet.
    """
    if hasattr(optimizer, "single_partition_of_fp32_groups"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _copy_settings(source: Any, target: Any) -> None:
    """Copy learning rates, decays and the like from one optimizer's groups to another's."""
    for old, new in zip(source, target, strict=True):
        new.update({key: value for key, value in old.items() if key != "params"})


def _set_shard(weight: Any, value: Tensor, key: str | None) -> None:
    """Store this rank's part of a weight (key None) or of a moment of it, in fp32."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    if not hasattr(weight, "ds_tensor"):
        safe_set_full_optimizer_state(weight, value, key)
        return
    # DeepSpeed's setter of whole values fails under ZeRO-3 where the last shard is padded.
    size, ranks, rank = weight.ds_tensor.numel(), distributed.get_world_size(), distributed.get_rank()
    flat = nn.functional.pad(value.flatten().float(), (0, size * ranks - value.numel()))
    safe_set_local_optimizer_state(weight, flat[rank * size : (rank + 1) * size], key)
