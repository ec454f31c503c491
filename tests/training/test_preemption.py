"""A signal saves the step that is running and ends the job with a code that asks for it to be run again."""

import os
import signal
import time

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from musician.training.callbacks import preemption
from musician.training.callbacks.checkpoints import Checkpoints
from musician.training.callbacks.preemption import REQUEUE, Preemption

from .toys import Interrupted, adapted, data, fit

STEPS = 8  # of two epochs of 16 micro-batches, 4 a step


class SignalAt(Callback):
    """Sends this process a signal when a hook is called for the nth time."""

    def __init__(self, hook, count, number=signal.SIGTERM, times=1):
        self.left, self.number, self.times = count, number, times
        setattr(self, hook, self.called)

    def called(self, *_):
        self.left -= 1
        if self.left == 0:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class DieAt(SignalAt):
    """As good as a kill."""

    def called(self, *_):
        self.left -= 1
        if self.left == 0:
            raise Interrupted


@pytest.fixture(scope="module")
def whole(tunes, tmp_path_factory):
    return run(tunes, tmp_path_factory.mktemp("whole"))


def run(tunes, folder, *callbacks, **options):
    saving = [] if folder is None else [Checkpoints(folder, data(tunes).renderer.tokenizer)]
    callbacks = [Preemption(*saving), *callbacks, *saving]
    return fit(tunes, network=adapted(0.1), epochs=2, callbacks=callbacks, enable_checkpointing=bool(saving), **options)


def resume(tunes, folder):
    return run(tunes, folder, resume=folder / "last" / "state.ckpt", seed=99)


def check_same(one, other):
    assert one.trainer.global_step == STEPS
    for name, weight in one.weights().items():
        assert torch.equal(weight, other.weights()[name]), name


def saved_step(folder):
    return int((folder / "last").resolve().name.removeprefix("step-"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_step_that_runs_is_finished_and_saved(tunes, tmp_path, whole, number, capfd):
    """In its second micro-batch of four: stopping there would lose the first two's gradients."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    with pytest.raises(SystemExit) as end:
        run(tunes, tmp_path, SignalAt("on_train_batch_start", 6, number))
    assert end.value.code == (130 if number == signal.SIGINT else REQUEUE)
    assert saved_step(tmp_path) == 2
    assert f"{number.name}: stopped after step 2, saved in {tmp_path}/last" in capfd.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before
    check_same(resume(tunes, tmp_path), whole)


@pytest.mark.parametrize("step", [4, 8])
@pytest.mark.parametrize(
    ("hook", "kind"),
    [("on_train_batch_end", SignalAt), ("on_validation_batch_end", SignalAt), ("on_validation_batch_end", DieAt)],
)
def test_the_end_of_an_epoch_is_saved_before_its_evaluation(tunes, tmp_path, whole, step, hook, kind):
    """In the epoch's last micro-batch, and while it is validated; a resumed run begins with the validation."""
    count = 4 * step if hook == "on_train_batch_end" else step // 4 * 5 - 2
    if kind is SignalAt:
        with pytest.raises(SystemExit) as end:
            run(tunes, tmp_path, SignalAt(hook, count))
        assert end.value.code == REQUEUE
    else:
        run(tunes, tmp_path, DieAt(hook, count))
    assert saved_step(tmp_path) == step
    again = resume(tunes, tmp_path)
    check_same(again, whole)
    assert again.log.column("val/loss") == whole.log.column("val/loss")[step // 4 - 1 :]
    assert again.log.column("train/loss") == whole.log.column("train/loss")[step:]
    assert [step for step, values in again.log.entries if "val/loss" in values] == [
        step for step, values in whole.log.entries if "val/loss" in values
    ][step // 4 - 1 :]


def test_a_run_stopped_at_every_step_ends_with_the_same_bits(tunes, tmp_path, whole):
    """Every state on the way is whole; the ends of epochs among them."""
    stops, options = 0, {}
    while True:
        try:
            last = run(tunes, tmp_path, SignalAt("on_train_batch_start", 1), **options)
            break
        except SystemExit:
            stops += 1
            options = {"resume": tmp_path / "last" / "state.ckpt", "seed": stops}
            assert saved_step(tmp_path) == stops
    assert stops == STEPS
    check_same(last, whole)


def test_two_signals_of_a_moment_are_one(tunes, tmp_path):
    with pytest.raises(SystemExit) as end:
        run(tunes, tmp_path, SignalAt("on_train_batch_start", 2, times=3))
    assert end.value.code == REQUEUE


def test_a_second_signal_ends_at_once(tunes, tmp_path, monkeypatch):
    """Without waiting for the step."""
    ended = []
    monkeypatch.setattr(preemption, "SAME_SIGNAL", 0.0)
    monkeypatch.setattr(preemption.os, "_exit", ended.append)

    class Twice(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 1:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGUSR1)
                assert ended == [128 + signal.SIGUSR1]
                raise Interrupted

    run(tunes, tmp_path, Twice())
    assert ended


def test_without_checkpoints_the_code_says_that_nothing_was_saved(tunes, capfd):
    with pytest.raises(SystemExit) as end:
        run(tunes, None, SignalAt("on_train_batch_start", 2))
    assert end.value.code == 128 + signal.SIGTERM
    assert "not saved" in capfd.readouterr().err
