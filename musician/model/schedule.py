"""Learning-rate curves as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """Maps an optimiser step to a share of the peak learning rate."""

    def factor(self, step: int, total: int) -> float:
        """Share in 0..1 for the update number `step`, counted from 0, of `total`."""
        ...


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """Linear warm-up to the peak, then half a cosine to the floor: what the paper states.

    The first update already learns (its share is 1/warm-up steps), the last update comes one step before the floor.

    Attributes:
        warmup_ratio: share of all steps spent warming up.
        floor: share of the peak at the end.
    """

    warmup_ratio: float = 0.05
    floor: float = 0.0

    def factor(self, step: int, total: int) -> float:
        """See `Schedule.factor`."""
        warmup = math.ceil(self.warmup_ratio * total)
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class LogWarmupLinear:
    """What the released ChatMusician script really does: logarithmic warm-up from a floor, linear decay back to it.

    Its config asks DeepSpeed's `WarmupDecayLR` for `warmup_type: cosine`, which DeepSpeed does not know and replaces by
    `log`; `warmup_min_lr` is a tenth of the rate.

    Attributes:
        warmup_ratio: share of all steps spent warming up.
        floor: share of the peak at both ends.
    """

    warmup_ratio: float = 0.1
    floor: float = 0.1

    def factor(self, step: int, total: int) -> float:
        """See `Schedule.factor`."""
        step = max(
            0, step - 1
        )  # DeepSpeed's scheduler steps after the update: the second one still has the first's rate
        warmup = max(2, int(self.warmup_ratio * total))
        if step < warmup:
            gamma = math.log(step + 1) / math.log(warmup)
        else:
            gamma = max(0.0, (total - step) / max(1.0, total - warmup))
        return self.floor + (1.0 - self.floor) * gamma


@dataclass(frozen=True, slots=True)
class Constant:
    """The peak rate throughout."""

    def factor(self, step: int, total: int) -> float:
        """See `Schedule.factor`."""
        return 1.0
