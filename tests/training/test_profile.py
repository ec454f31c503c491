"""`profile=true`: a trace and a table of where the steps of a run go."""

import json
import re

import pytest
import torch
from torch.profiler import profile, record_function

from musician.training.callbacks.profile import LORA, StepProfile, mark_ranges, seconds_by_kind

from .toys import adapted, fit


def test_a_profiled_run_leaves_a_trace_and_a_table_that_adds_up(tunes, tmp_path):
    fit(tunes, epochs=2, callbacks=[StepProfile(str(tmp_path / "profile"), enabled=True)])
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"attention", "MLP", "LoRA", "head and loss"} <= names
    text = (tmp_path / "profile" / "table.txt").read_text()
    rows = dict(re.findall(r"^(\S.*?) {2,}.* ([\d.]+)%$", text, re.M))
    assert {"attention", "LoRA", "MLP", "head and loss", "optimiser", "data", "other"} <= set(rows)
    assert sum(map(float, rows.values())) == pytest.approx(100, abs=1)
    assert text.startswith("2 optimiser steps")


def test_profiling_changes_no_weight_and_off_it_writes_nothing(tunes, tmp_path):
    plain = fit(tunes, callbacks=[StepProfile(str(tmp_path / "off"))]).weights()
    watched = fit(tunes, callbacks=[StepProfile(str(tmp_path / "on"), enabled=True)]).weights()
    assert not (tmp_path / "off").exists()
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_run_that_is_too_short_says_so(tunes, tmp_path, caplog):
    fit(tunes, max_steps=1, callbacks=[StepProfile(str(tmp_path / "profile"), enabled=True, skip=5)])
    assert "training ended within the 5 steps left out" in caplog.text


def test_backward_work_counts_where_its_forward_ran():
    """Most of the time is one large product of an adapter, forward and backward."""
    network = adapted()
    handles = mark_ranges(network)
    left = torch.randn(700, 700, requires_grad=True)
    with profile() as watched:
        with record_function(LORA):
            product = left @ left
        product.sum().backward()
    for handle in handles:
        handle.remove()
    found = seconds_by_kind(watched.events())
    assert found[LORA] > 0.8 * sum(found.values())
    assert not any(module._forward_pre_hooks for module in network.modules())
