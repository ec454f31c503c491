"""Where a training step goes: a trace of some steps and a plain table by kind of work."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from musician.model.network import causal_lm
from musician.model.ranges import ATTENTION, HEAD_AND_LOSS, LORA, MLP, REST
from musician.runtime.atomic import write_text

#: Ranges of the forward pass; work of the backward pass counts where its forward operation ran.
_RANGES = {ATTENTION, LORA, MLP, REST, HEAD_AND_LOSS}

#: Ranges that torch names, by how the name begins.
_NAMED = {
    "Optimizer.": "optimiser",
    "enumerate(DataLoader)": "data",
    "c10d::": "communication",
    "gloo:": "communication",
    "nccl:": "communication",
}
_BACKWARD = "autograd::engine::evaluate_function"
_OTHER = "other"


class StepProfile(Callback):
    """Profiles some optimiser steps of rank 0 with torch.profiler.

    Writes `trace.json` (chrome://tracing, Perfetto) and `table.txt`. Steps are slower while they are profiled.

    Args:
        directory: where they go.
        enabled: without it nothing is done.
        skip: optimiser steps of this process before the first that is profiled.
        steps: how many are.
    """

    def __init__(self, directory: str, enabled: bool = False, skip: int = 1, steps: int = 2) -> None:
        self.directory = Path(directory)
        self.enabled, self.skip, self.steps = enabled, skip, steps
        self._profile: profile | None = None
        self._hooks: list[Any] = []
        self._begun = 0
        self._done = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note where this process begins."""
        self._begun = trainer.global_step
        self._done = not (self.enabled and trainer.is_global_zero)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Start and stop between optimiser steps, so that reading the next batch belongs to its step."""
        steps = trainer.global_step - self._begun
        if self._done or steps < self.skip:
            return
        if self._profile is None:
            self._start(pl_module)
        elif steps >= self.skip + self.steps:
            self._stop(self.steps)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write what there is, or say that there is nothing."""
        if self._profile is not None:
            self._stop(max(1, trainer.global_step - self._begun - self.skip))
        elif not self._done:
            logging.getLogger(__name__).warning(f"profile: training ended within the {self.skip} steps left out")

    def _start(self, module: Any) -> None:
        self._hooks = mark_ranges(module.network)
        on_gpu = [ProfilerActivity.CUDA] if module.device.type == "cuda" else []
        self._profile = profile(activities=[ProfilerActivity.CPU, *on_gpu])
        self._profile.start()

    def _stop(self, steps: int) -> None:
        assert self._profile is not None
        self._profile.stop()
        for hook in self._hooks:
            hook.remove()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self.directory / "trace.json"))
        events: Any = self._profile.events()
        on_gpu = ProfilerActivity.CUDA in self._profile.activities
        write_text(self.directory / "table.txt", table(seconds_by_kind(events, on_gpu), steps, on_gpu))
        logging.getLogger(__name__).info(f"profile: {self.directory}")
        self._profile, self._done = None, True


def mark_ranges(network: nn.Module) -> list[Any]:
    """Let each forward pass of a network name its kinds of work to the profiler; returns handles to remove.

    Adapters that are folded (`hardware.fold_lora`) count where they stand.
    """
    lm: Any = causal_lm(network)
    body = getattr(lm, lm.base_model_prefix)
    handles = []
    for name, module in body.named_modules():
        kind = REST if module is body else _kind_of_module(name, module)
        if kind:
            open_ranges: list[Any] = []

            def enter(*_: Any, kind: str = kind, opened: list[Any] = open_ranges) -> None:
                opened.append(record_function(kind))
                opened[-1].__enter__()

            def leave(*_: Any, opened: list[Any] = open_ranges) -> None:
                opened.pop().__exit__(None, None, None)

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    return handles


def _kind_of_module(name: str, module: nn.Module) -> str | None:
    if any(part.startswith("lora_") for part in name.split(".")) and not list(module.children()):
        return LORA
    kind = type(module).__name__
    return next((known for ending, known in (("Attention", ATTENTION), ("MLP", MLP)) if kind.endswith(ending)), None)


def seconds_by_kind(events: Iterable[Any], on_gpu: bool = False) -> dict[str, float]:
    """Time of profiled events by kind of work, most first.

    Args:
        events: of `torch.profiler.profile.events()`.
        on_gpu: count time of kernels, not of the CPU.
    """
    events = [event for event in events if event.device_type == DeviceType.CPU]
    forward: dict[int, str] = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0 and not event.name.startswith(_BACKWARD):
            kind = _kind(event, {})
            if kind in _RANGES:
                forward[event.sequence_nr] = kind  # the last of an equal number is the one that autograd recorded
    found: defaultdict[str, float] = defaultdict(float)
    for event in events:
        found[_kind(event, forward)] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _kind(event: Any, forward: dict[int, str]) -> str:
    """What the innermost range around an event says; of the backward pass, that of its forward operation."""
    while event is not None:
        if event.name in _RANGES:
            return str(event.name)
        if event.name.startswith(_BACKWARD):
            return forward.get(event.sequence_nr, _OTHER)
        for beginning, kind in _NAMED.items():
            if event.name.startswith(beginning):
                return kind
        event = event.cpu_parent
    return _OTHER


def table(seconds: dict[str, float], steps: int, on_gpu: bool) -> str:
    """The table as text: a line for each kind of work."""
    total = sum(seconds.values())
    what = "kernels on the GPU" if on_gpu else "operations on the CPU, wall clock"
    lines = [f"{steps} optimiser steps, {total / steps * 1e3:,.1f} ms each in {what}", ""]
    lines.append(f"{'kind':<26}{'ms a step':>12}{'share':>9}")
    for kind, spent in seconds.items():
        lines.append(f"{kind:<26}{spent / steps * 1e3:>12,.2f}{spent / max(total, 1e-12):>9.1%}")
    return "\n".join(lines) + "\n"
