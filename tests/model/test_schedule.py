"""Learning-rate curves against formulas and against DeepSpeed's own scheduler (B19)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.model.schedule import Constant, LogWarmupLinear, WarmupCosine

ratios = st.floats(0, 0.9)
totals = st.integers(1, 400)


def deepspeed_rates(total, warmup, peak=1e-4, floor=1e-5):
    """What `WarmupDecayLR` sets after each of its own steps, and before the first."""
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = WarmupDecayLR(optimizer, total, floor, peak, warmup, warmup_type="log")
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(total):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@given(ratios, totals, st.floats(0, 1))
def test_cosine_follows_its_formula(ratio, total, floor):
    schedule, warmup = WarmupCosine(ratio, floor), math.ceil(ratio * total)
    for step in range(total + 1):
        if step < warmup:
            wanted = (step + 1) / warmup
        else:
            angle = math.pi * (step - warmup) / max(1, total - warmup)
            wanted = floor + (1 - floor) * (math.cos(angle / 2)) ** 2
        assert schedule.factor(step, total) == pytest.approx(wanted, abs=1e-12)


def test_cosine_at_its_ends():
    """The first update learns, the peak comes with the end of the warm-up, and the end is the floor."""
    schedule = WarmupCosine(warmup_ratio=0.1, floor=0.2)
    assert schedule.factor(0, 100) == pytest.approx(0.1)
    assert schedule.factor(9, 100) == schedule.factor(10, 100) == 1.0
    assert schedule.factor(55, 100) == pytest.approx(0.6)
    assert schedule.factor(100, 100) == schedule.factor(500, 100) == pytest.approx(0.2)


@given(ratios, totals)
def test_cosine_rises_once_then_falls(ratio, total):
    factors = [WarmupCosine(ratio).factor(step, total) for step in range(total + 1)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0 <= factor <= 1 for factor in factors)


@given(st.integers(3, 300), st.floats(0, 0.9))
@settings(deadline=None, max_examples=40)
def test_each_update_uses_the_rate_that_deepspeed_would_use(total, ratio):
    """B19. `factor(k)` is the share for update number k from 0; DeepSpeed steps its scheduler after the update."""
    used = deepspeed_rates(total, max(1, int(ratio * total)))[:total]
    schedule = LogWarmupLinear(warmup_ratio=ratio, floor=0.1)
    assert [1e-4 * schedule.factor(step, total) for step in range(total)] == pytest.approx(used, rel=1e-9)


def test_deepspeed_takes_the_scripts_warmup_for_a_logarithmic_one():
    """B19: `warmup_type: cosine` is unknown to DeepSpeed."""
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    assert WarmupDecayLR(optimizer, 100, 0.1, 1.0, 10, warmup_type="cosine").warmup_type == "log"


def test_the_two_recipes_differ_by_a_third_of_the_peak_somewhere():
    """B19: why the difference is worth a preset of its own."""
    gaps = [abs(WarmupCosine().factor(step, 1000) - LogWarmupLinear().factor(step, 1000)) for step in range(1000)]
    assert max(gaps) > 0.3


@given(st.integers(0, 1000), totals)
def test_constant_is_the_peak(step, total):
    assert Constant().factor(step, total) == 1.0
