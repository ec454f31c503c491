"""What is logged at each step."""

import io
import sys

import pytest

from musician.training.callbacks.metrics import StepMetrics
from musician.training.callbacks.progress import StepProgress

from .toys import data, fit

STEP_METRICS = {
    f"train/{name}"
    for name in ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "hfu", "useful_share", "memory_gib")
}

STEP_METRICS |= {"train/tokens_seen", "train/skipped_steps"}


@pytest.mark.parametrize("micro", [1, 4])
def test_each_optimiser_step_logs_each_name_once(tunes, micro):
    run = fit(tunes, epochs=2, micro=micro)
    entries = [values for _, values in run.log.entries if any(name.startswith("train/") for name in values)]
    assert len(entries) == 8
    assert all(set(entry) - {"epoch"} == STEP_METRICS for entry in entries)
    assert [step for step, values in run.log.entries if "train/loss" in values] == list(range(8))
    assert len(run.log.column("val/loss")) == 2


def test_counts_are_those_of_the_data(tunes):
    """Tokens that are not padding, and no skipped steps in full precision."""
    run = fit(tunes, rows=14, epochs=2)
    datamodule = data(tunes)
    datamodule.setup()
    in_epoch = [sum(batch["num_tokens"] for batch in datamodule.training_batches(epoch, 0)) for epoch in (0, 1)]
    seen = run.log.column("train/tokens_seen")
    assert (seen[3], seen[7]) == (in_epoch[0], sum(in_epoch))
    assert set(run.log.column("train/skipped_steps")) == {0.0}
    assert all(0 < share < 2 for share in run.log.column("train/mfu"))
    assert all(speed > 0 for speed in run.log.column("train/tokens_per_second"))


def test_hardware_computes_padding_too_and_the_peak_has_a_name(tunes):
    """Four rows a micro-batch are padded to the longest: MFU is the useful share of HFU."""
    run = fit(tunes, micro=4)
    batches = list(run.trainer.datamodule.training_batches(0, 0))
    shares = [batch["num_tokens"] / batch["input_ids"].numel() for batch in batches]
    assert run.log.column("train/useful_share") == pytest.approx(shares)
    assert min(shares) < 1
    quotients = zip(run.log.column("train/mfu"), run.log.column("train/hfu"), strict=True)
    assert [mfu / hfu for mfu, hfu in quotients] == pytest.approx(shares)
    metrics = next(callback for callback in run.trainer.callbacks if isinstance(callback, StepMetrics))
    assert "GFLOP/s a rank x 1, measured: products of 1024 x 1024, float32" in metrics.peak


def test_memory_is_at_most_what_the_system_says(tunes):
    run = fit(tunes, max_steps=1)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert 0.05 < run.log.column("train/memory_gib")[0] <= peak / 2**20 * 1.01


def test_progress_shows_the_first_and_the_last_step(tunes, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    run = fit(tunes, epochs=2, callbacks=[StepProgress(plain_interval=20)])
    lines = [line for line in stderr.getvalue().splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["1/8", "8/8"]
    assert f"loss {run.log.column('train/loss')[-1]:.3f}" in lines[-1]
