"""Which checkpoints are kept, what a crash leaves, and that a resumed run ends like an undisturbed one (B28)."""

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from musician.model.merge import attach_adapter
from musician.model.schedule import Constant
from musician.runtime.errors import UserError
from musician.training.callbacks import checkpoints as module
from musician.training.callbacks.checkpoints import Checkpoints

from .toys import Interrupted, StopAt, adapted, fit, llama

STEPS = 8  # of two epochs


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def step_of(link):
    return int(link.resolve().name.removeprefix("step-")) if link.exists() else None


def stub_trainer(step, **metrics):
    """What `Checkpoints.save` needs of a trainer; its state file is a few bytes."""
    return SimpleNamespace(
        global_step=step,
        current_epoch=0,
        is_global_zero=True,
        callback_metrics=metrics,
        strategy=SimpleNamespace(barrier=lambda: None),
        save_checkpoint=lambda path, weights_only: path.write_text("state"),
    )


def save_sequence(callback, values, first_step=1):
    with mock.patch.object(module, "save_weights"), mock.patch.object(module, "require_finite"):
        for step, value in enumerate(values, first_step):
            metrics = {} if value is None else {"val/loss": torch.tensor(float(value))}
            callback.save(
                stub_trainer(step, **metrics), SimpleNamespace(network=torch.nn.Linear(1, 1), last_batch=None)
            )


@given(
    st.lists(st.integers(-3, 3) | st.none(), min_size=1, max_size=8), st.integers(1, 3), st.sampled_from(["min", "max"])
)
@settings(max_examples=25, deadline=None)
def test_the_newest_few_and_the_best_are_kept(values, keep, mode):
    """The earliest of equals is best; before anything was measured the first is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_sequence(Checkpoints(folder, None, keep=keep, mode=mode), values)
        measured = [
            (value if mode == "min" else -value, step) for step, value in enumerate(values, 1) if value is not None
        ]
        best = min(measured)[1] if measured else 1
        assert step_of(folder / "last") == len(values)
        assert step_of(folder / "best") == best
        kept = {best, *range(max(1, len(values) - keep + 1), len(values) + 1)}
        assert visible(folder) == sorted(["best", "last", *(f"step-{step:06d}" for step in kept)])


def test_without_a_metric_the_newest_is_best(tmp_path):
    save_sequence(Checkpoints(tmp_path, None, monitor=None), [5, 1, 9])
    assert step_of(tmp_path / "best") == 3


def test_a_resumed_run_remembers_what_was_best(tmp_path):
    first = Checkpoints(tmp_path, None)
    save_sequence(first, [5, 1, 9])
    second = Checkpoints(tmp_path, None)
    second.load_state_dict(first.state_dict())
    save_sequence(second, [2, 3], first_step=4)
    assert step_of(tmp_path / "best") == 2


def test_a_run_resumed_from_an_older_checkpoint_keeps_what_it_writes(tmp_path):
    save_sequence(Checkpoints(tmp_path, None), [1, 2, 3, 4])
    resumed = Checkpoints(tmp_path, None)
    resumed.load_state_dict({"best_value": 1.0})
    save_sequence(resumed, [5], first_step=2)
    assert step_of(tmp_path / "last") == 2


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"mode": "least"}])
def test_a_setting_that_makes_no_sense_is_refused(tmp_path, wrong):
    with pytest.raises(UserError, match=r"callbacks\.checkpoints"):
        Checkpoints(tmp_path, None, **wrong)


def test_a_checkpoint_holds_the_adapter_and_never_the_base(tunes, tmp_path):
    """Small, whatever the base weighs."""
    run = fit(tunes, tmp_path)
    saved = tmp_path / "last"
    state = torch.load(saved / "state.ckpt", weights_only=False)
    trainable = set(run.weights())
    assert set(state["state_dict"]) == trainable
    assert all("lora_" in name for name in load_file(saved / "adapter" / "adapter_model.safetensors"))
    values = sum(weight.numel() for weight in run.weights().values())
    assert (saved / "adapter" / "adapter_model.safetensors").stat().st_size < 4 * values + 10_000
    assert len(state["optimizer_states"][0]["state"]) == len(trainable)
    assert {"random_states", "lr_schedulers", "loops", "callbacks"} <= set(state)
    assert sorted(path.name for path in saved.iterdir()) == ["adapter", "checkpoint.json", "state.ckpt"]


def test_the_adapter_gives_the_logits_of_the_run(tunes, tmp_path):
    run = fit(tunes, tmp_path)
    ids = torch.arange(3, 40)[None]
    again = attach_adapter(llama(), tmp_path / "last" / "adapter").eval()
    with torch.no_grad():
        wanted = run.module.network.eval()(ids, use_cache=False).logits
        torch.testing.assert_close(again(ids, use_cache=False).logits, wanted, rtol=0, atol=0)
        assert not torch.allclose(wanted, llama().eval()(ids).logits, atol=1e-4)


def failing_save(error, on_call):
    """`save_weights` that fails on its nth call, after it has written half."""
    calls, genuine = [], module.save_weights

    def save(network, tokenizer, directory):
        calls.append(directory)
        if len(calls) == on_call:
            (directory / "adapter").mkdir()
            (directory / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
            raise error
        genuine(network, tokenizer, directory)

    return save


def test_a_crash_while_saving_leaves_the_previous_checkpoint(tunes, tmp_path, monkeypatch):
    """B28: nothing half-written under a final name, and what was there resumes."""
    monkeypatch.setattr(module, "save_weights", failing_save(Interrupted(), 2))
    fit(tunes, tmp_path, every_n_steps=2)
    monkeypatch.undo()
    assert visible(tmp_path) == ["best", "last", "step-000002"]
    assert step_of(tmp_path / "last") == 2
    run = fit(tunes, tmp_path, resume=tmp_path / "last" / "state.ckpt", every_n_steps=2, seed=99)
    assert run.trainer.global_step == 4
    assert visible(tmp_path) == ["best", "last", "step-000004"]
    assert not list(tmp_path.glob(".*partial")), "the retry cleans up"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_line_and_costs_no_earlier_checkpoint(tunes, tmp_path, monkeypatch, error):
    """B28: the second error is what torch says of a full disk."""
    monkeypatch.setattr(module, "save_weights", failing_save(error, 2))
    with pytest.raises(UserError, match="cannot be written") as caught:
        fit(tunes, tmp_path, every_n_steps=2)
    assert "\n" not in str(caught.value)
    assert "step-000004" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["best", "last", "step-000002"]
    assert torch.load(tmp_path / "last" / "state.ckpt", weights_only=False)["global_step"] == 2


@pytest.fixture(scope="module")
def undisturbed(tunes, tmp_path_factory):
    """Two epochs with dropout, by micro-batch."""
    runs = {}

    def run(micro):
        if micro not in runs:
            folder = tmp_path_factory.mktemp("undisturbed")
            runs[micro] = fit(tunes, folder, network=adapted(0.1), epochs=2, micro=micro)
        return runs[micro]

    return run


@pytest.mark.parametrize(
    ("stop", "micro"),
    [
        pytest.param(1, 1),
        pytest.param(3, 1),
        pytest.param(4, 1, id="between epochs"),
        pytest.param(6, 1),
        pytest.param(2, 4),
        pytest.param(4, 4, id="between epochs, no accumulation"),
        pytest.param(7, 4),
    ],
)
def test_a_run_stopped_anywhere_ends_with_the_same_bits(tunes, tmp_path, undisturbed, stop, micro):
    """B28: weights, and every loss on the way; dropout is on, and the new process starts with another seed."""
    whole = undisturbed(micro)
    options = {"epochs": 2, "micro": micro, "every_n_steps": 1}
    stopped = fit(tunes, tmp_path, network=adapted(0.1), callbacks=[StopAt(stop)], **options)
    assert step_of(tmp_path / "last") == stop
    resumed = fit(
        tunes, tmp_path, network=adapted(0.1), resume=tmp_path / "last" / "state.ckpt", seed=1000 + stop, **options
    )
    assert resumed.trainer.global_step == STEPS
    for key in ("train/loss", "train/lr", "train/tokens_seen", "train/grad_norm"):
        assert stopped.log.column(key) + resumed.log.column(key) == whole.log.column(key), key
    for name, weight in resumed.weights().items():
        assert torch.equal(weight, whole.weights()[name]), name


def test_dropout_matters_here(undisturbed, tunes):
    """Or the test above would not notice a lost random state."""
    other = fit(tunes, network=adapted(0.1), epochs=2, seed=8)
    assert other.log.column("train/loss") != undisturbed(1).log.column("train/loss")


def test_a_run_resumed_from_a_checkpoint_between_saves_repeats_the_steps_it_lost(tunes, tmp_path, undisturbed):
    whole = undisturbed(1)
    fit(tunes, tmp_path, network=adapted(0.1), epochs=2, every_n_steps=3, callbacks=[StopAt(3)])
    assert step_of(tmp_path / "last") == 3
    resumed = fit(tunes, tmp_path, network=adapted(0.1), epochs=2, resume=tmp_path / "last" / "state.ckpt", seed=4)
    assert resumed.log.column("train/loss") == whole.log.column("train/loss")[3:]
    for name, weight in resumed.weights().items():
        assert torch.equal(weight, whole.weights()[name])


@pytest.mark.parametrize(("every", "wanted"), [(None, [4, 8]), (3, [3, 4, 6, 8]), (1, list(range(1, 9)))])
@pytest.mark.parametrize("micro", [1, 2])
def test_checkpoints_are_written_at_epoch_ends_and_every_so_many_steps(tunes, tmp_path, every, wanted, micro):
    """Of optimiser steps, not of micro-batches."""
    fit(tunes, tmp_path, epochs=2, every_n_steps=every, keep=99, micro=micro)
    steps = [int(name.removeprefix("step-")) for name in visible(tmp_path) if name.startswith("step")]
    assert steps == wanted


def test_the_end_of_a_run_that_stops_inside_an_epoch_is_saved(tunes, tmp_path):
    fit(tunes, tmp_path, epochs=2, max_steps=2)
    assert step_of(tmp_path / "last") == 2


def test_best_is_the_lowest_validation_loss_of_a_real_run(tunes, tmp_path):
    run = fit(tunes, tmp_path, epochs=3, keep=3)
    losses = run.log.column("val/loss")
    assert len(losses) == 3
    assert step_of(tmp_path / "best") == 4 * (1 + losses.index(min(losses)))


@pytest.mark.parametrize("every_n_steps", [None, 2])
def test_a_run_that_a_step_limit_ends_within_an_epoch_goes_on_with_the_next_step(tunes, tmp_path, every_n_steps):
    """Not with the next epoch: no row is skipped."""
    whole = fit(tunes, epochs=2, schedule=Constant())
    fit(tunes, tmp_path, epochs=2, schedule=Constant(), max_steps=3, every_n_steps=every_n_steps)
    state = tmp_path / "last" / "state.ckpt"
    rest = fit(tunes, tmp_path, epochs=2, schedule=Constant(), resume=state)
    assert rest.trainer.global_step == whole.trainer.global_step == 8
    for name, weight in whole.weights().items():
        assert torch.equal(weight, rest.weights()[name]), name
