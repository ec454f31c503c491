"""A state written by some processes and read by others: another number of ranks, another ZeRO stage, or no ZeRO.

Whoever wrote it, a state is the same thing: for each trained weight its value in fp32 and what the optimiser keeps of
it. ZeRO cuts that into one shard a process; here the shards are put together by the names of the weights and cut again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor, distributed

from musician.runtime.errors import UserError

if TYPE_CHECKING:
    from musician.training.module import CausalLMModule


@dataclass(frozen=True, slots=True)
class Layout:
    """Who writes or reads a state.

    Attributes:
        stage: of ZeRO; None without.
        world_size: processes.
    """

    stage: int | None
    world_size: int

    def __str__(self) -> str:
        how = "without ZeRO" if self.stage is None else f"by ZeRO-{self.stage}"
        return f"{how} on {self.world_size} process{'es' if self.world_size > 1 else ''}"


@dataclass(frozen=True, slots=True)
class WholeState:
    """A state in nobody's layout.

    Attributes:
        checkpoint: Lightning's: loops, callbacks, schedule, position in the data, random states.
        weights: the trained ones by name, in fp32.
        optimizer: what the optimiser keeps of each weight, by the weight's name: tensors of its shape, and numbers.
        loss_scaler: DeepSpeed's, of an fp16 run; None where there was none.
    """

    checkpoint: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, dict[str, Any]]
    loss_scaler: Any = None


def layout_of(state: Path) -> Layout:
    """Who wrote `state.ckpt`: a file, or ZeRO's folder.

    Raises:
        UserError: shards are missing, as where each node wrote to a disk of its own.
    """
    shards = _shards(state)
    if not shards:
        return Layout(None, len(_load(state)["random_states"]))
    written = _load(shards[0])["optimizer_state_dict"]
    count = written["partition_count"]
    expected = max(count) if isinstance(count, Sequence) else int(count)
    if len(shards) != expected:
        raise UserError(
            f"checkpoint {state.parent}: holds the shards of {len(shards)} of {expected} processes; a run on several "
            "nodes needs an output directory that all of them share"
        )
    return Layout(int(written["zero_stage"]), expected)


def describe_change(before: Layout, now: Layout) -> str:
    """One line about a run that goes on in another layout: what is kept, and what is not."""
    added = now.world_size - before.world_size
    ranks = f"{abs(added)} rank{'s' if abs(added) > 1 else ''} {'more' if added > 0 else 'fewer'}"
    dropout = f"; {ranks}: dropout draws otherwise" if added else ""
    return (
        f"the state was written {before}, this job trains {now}: weights, optimiser, schedule and order of the data "
        f"are kept{dropout}"
    )


def read_whole(state: Path, module: CausalLMModule) -> WholeState:
    """Put a state together, whoever wrote it.

    Args:
        state: `state.ckpt` of a checkpoint.
        module: of this job; its optimiser says in which order a plain state numbers the weights.
    """
    if _shards(state):
        return _read_shards(state / "checkpoint")
    checkpoint = _load(state)
    kept = checkpoint["optimizer_states"][0]["state"]
    by_name = {name: kept[place] for place, name in enumerate(_names_in_order(module)) if place in kept}
    return WholeState(checkpoint, checkpoint["state_dict"], by_name)


class AnyLayout(TorchCheckpointIO):
    """Lets Lightning's own strategies continue from the state of any ZeRO run.

    Args:
        module: of this job.
    """

    def __init__(self, module: CausalLMModule) -> None:
        self.module = module

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a state as Lightning wrote it, or would have."""
        if not _shards(Path(path)):
            checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
            return checkpoint
        whole = read_whole(Path(path), self.module)
        return {**whole.checkpoint, "state_dict": whole.weights, "optimizer_states": [self._numbered(whole)]}

    def _numbered(self, whole: WholeState) -> dict[str, Any]:
        """The optimiser's state as torch writes it: by the weights' places."""
        order = _names_in_order(self.module)
        schedule = whole.checkpoint["lr_schedulers"][0]
        groups = self.module.new_optimizer().state_dict()["param_groups"]
        for group, rate, peak in zip(groups, schedule["_last_lr"], schedule["base_lrs"], strict=True):
            group.update(lr=rate, initial_lr=peak)
        return {"state": {place: whole.optimizer[name] for place, name in enumerate(order)}, "param_groups": groups}


def accept_any_layout(trainer: lightning.Trainer, module: CausalLMModule) -> None:
    """Let a trainer continue from a state of any layout; `ZeroStrategy` does already."""
    if not isinstance(trainer.strategy, DeepSpeedStrategy):
        trainer.strategy.checkpoint_io = AnyLayout(module)


def spread(whole: WholeState, engine: Any, module: CausalLMModule) -> None:
    """Give each process of a started DeepSpeed engine its part of a state; a collective call.

    DeepSpeed takes the whole fp32 value of a weight and keeps this process's part, but has no place yet for what its
    optimiser will keep. Moments are cut as the weights are: each goes through the weights' place, and the weights last.
    """
    optimizer = engine.optimizer
    sharded = hasattr(optimizer, "fp32_partitioned_groups_flat")
    flats = optimizer.fp32_partitioned_groups_flat if sharded else optimizer.single_partition_of_fp32_groups
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    sample = next(iter(whole.optimizer.values()), {})
    moments = [key for key, value in sample.items() if isinstance(value, Tensor) and value.dim() > 0]
    states = [{key: deepcopy(value) for key, value in sample.items() if key not in moments} for _ in flats]
    for key in moments:
        _write({name: whole.optimizer[name][key] for name in trained}, trained)
        for flat, kept in zip(flats, states, strict=True):
            kept[key] = flat.detach().clone()
    _write({name: whole.weights[name] for name in trained}, trained)
    for flat, kept in zip(flats, states, strict=True):
        optimizer.optimizer.state[flat] = kept
    for group, rate in zip(optimizer.param_groups, whole.checkpoint["lr_schedulers"][0]["_last_lr"], strict=True):
        group["lr"] = rate
    if whole.loss_scaler is not None and engine.fp16_enabled():
        optimizer.loss_scaler = whole.loss_scaler
    _refresh(optimizer, sharded, engine.world_size)
    engine.global_steps = whole.checkpoint.get("global_steps", whole.checkpoint["global_step"])
    engine.global_samples = engine.global_steps * engine.train_batch_size()
    engine.skipped_steps = whole.checkpoint.get("skipped_steps", 0)


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


def _load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
    return loaded


def _shards(state: Path) -> list[Path]:
    """In the order of the ranks."""
    shards = state.glob("checkpoint/*optim_states.pt")
    return sorted(shards, key=lambda path: int(path.name.split("pp_rank_")[1].split("_")[0]))


def _names_in_order(module: CausalLMModule) -> list[str]:
    """Trained weights as the optimiser numbers them."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(p)] for group in module.new_optimizer().param_groups for p in group["params"]]


def _read_shards(folder: Path) -> WholeState:
    """Put ZeRO's shards together, with DeepSpeed's own knowledge of how each stage cuts them.

    Its function merges fp32 weights; moments are cut in the same way.
    """
    from deepspeed.utils import zero_to_fp32 as merging

    shards = [_load(file)["optimizer_state_dict"] for file in _shards(folder.parent)]
    stage = int(shards[0]["zero_stage"])
    checkpoint = _load(Path(merging.get_model_state_file(str(folder), stage)))
    checkpoint.pop("module")
    models = merging.parse_model_states(merging.get_model_state_files(str(folder)))

    def merged(flats: list[list[Tensor]]) -> dict[str, Tensor]:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if stage == 3:
                found = merging._get_fp32_state_dict_from_zero3_checkpoint(len(flats), flats, models, True)
                return {name: part.contiguous().detach() for name, part in found.items()}
            paddings = shards[0].get("param_alignment_paddings")
            found = merging._get_fp32_state_dict_from_zero2_checkpoint(len(flats), flats, models, True, paddings)
            return {name: part.detach() for name, part in found.items()}

    key, inner = (
        ("fp32_flat_groups", "optimizer_state_dict")
        if stage == 3
        else (
            "single_partition_of_fp32_groups",
            "base_optimizer_state",
        )
    )
    weights = merged([shard[key] for shard in shards])
    optimizer: dict[str, dict[str, Any]] = {name: {} for name in weights}
    sample = shards[0][inner]["state"][0]
    for moment, value in sample.items():
        if not (isinstance(value, Tensor) and value.dim() > 0):
            parts = {name: deepcopy(value) for name in weights}  # torch counts steps in place
        else:
            # What pads the last part to a round size is not in the weights' shards.
            parts = merged([[s[moment][: len(flat)] for s, flat in _places(shard, key, inner)] for shard in shards])
        for name in weights:
            optimizer[name][moment] = parts[name]
    return WholeState(checkpoint, weights, optimizer, shards[0]["loss_scaler"])


def _places(shard: dict[str, Any], key: str, inner: str) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """What the optimiser keeps of each flat group of a shard, and the group."""
    return zip(shard[inner]["state"].values(), shard[key], strict=True)


def _write(values: Mapping[str, Tensor], weights: Mapping[str, Any]) -> None:
    """Give each process its part of the values, in the fp32 copy of the weights."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    for name, weight in weights.items():
        if not hasattr(weight, "ds_tensor"):
            safe_set_full_fp32_param(weight, values[name])
            continue
        # DeepSpeed's own setter of whole values stops where the last part is padded.
        size, ranks, rank = weight.ds_tensor.numel(), distributed.get_world_size(), distributed.get_rank()
        flat = torch.nn.functional.pad(values[name].flatten().float(), (0, size * ranks - values[name].numel()))
        safe_set_local_fp32_param(weight, flat[rank * size : (rank + 1) * size])


def _refresh(optimizer: Any, sharded: bool, world_size: int) -> None:
    """Carry the fp32 copies over to the weights that compute."""
    if not sharded:
        optimizer.update_lp_params()
        return
    optimizer.checkpoint_event_prologue()
    optimizer.load_state_dict([optimizer.state_dict()] * world_size)
    optimizer.checkpoint_event_epilogue()
