"""A loss, gradient or weight that is not finite is found where it arises, said with its place, and never kept."""

import re

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from musician.runtime.errors import UserError
from musician.training.callbacks.nonfinite import NonFinite

from .test_strategy import found_by
from .toys import adapted, fit


class Poison(Callback):
    """Makes a layer's output infinite while one micro-batch runs, as fp16 does with one sample."""

    def __init__(self, layer, batch_idx, backward=False):
        self.layer, self.batch_idx, self.backward = layer, batch_idx, backward
        self.texts = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.active = batch_idx in (self.batch_idx if isinstance(self.batch_idx, tuple) else (self.batch_idx,))
        if self.active:
            self.texts.append(trainer.datamodule.renderer.tokenizer.decode(batch["input_ids"][0].tolist()))

    def on_train_start(self, trainer, module):
        module.network.get_submodule(self.layer).register_forward_hook(self.hook)

    def hook(self, layer, inputs, output):
        if not self.active:
            return None
        if self.backward:
            return output + _BadGradient.apply(output)
        return output * float("inf")


class _BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


LAYER = "base_model.model.model.layers.1.mlp.up_proj"


def run(tunes, folder, poison, policy="stop", limit=10, **options):
    return fit(tunes, folder, network=adapted(), callbacks=[poison], nonfinite=NonFinite(policy, limit), **options)


def test_the_place_the_sample_and_the_layer_are_named(tunes, tmp_path):
    poison = Poison(LAYER, 6)
    with pytest.raises(UserError) as caught:
        run(tunes, tmp_path, poison, every_n_steps=1)
    said = str(caught.value)
    assert "\n" not in said
    for words in ("at step 1", "rank 0", "micro-batch 2", LAYER.removeprefix("base_model."), "last checkpoint"):
        assert words in said
    assert repr(poison.texts[0][:60])[:-1] in said
    assert (tmp_path / "last").resolve().name == "step-000001"


def test_a_gradient_is_named_too(tunes):
    with pytest.raises(
        UserError, match=r"gradient is not finite at step 2, rank 0, micro-batch 1 .*layers\.1\.self_attn"
    ):
        run(tunes, None, Poison(LAYER, 9, backward=True))


@pytest.mark.parametrize("backward", [False, True])
def test_skipping_goes_on_with_finite_weights_and_counts(tunes, capfd, backward):
    done = run(tunes, None, Poison(LAYER, (1, 6), backward), "skip", epochs=1)
    assert done.trainer.global_step == 4
    assert done.module.nonfinite.skipped == 2
    assert all(torch.isfinite(weight).all() for weight in done.weights().values())
    assert "left out (2 of at most 10)" in capfd.readouterr().err


def test_a_skipped_micro_batch_adds_nothing(tunes):
    """Losses of the first step: those of its other three rows, over the tokens of all four."""
    clean, poisoned = [], []

    class Shares(Callback):
        def __init__(self, found):
            self.found = found

        def on_train_batch_end(self, trainer, module, outputs, *_):
            self.found.append(float(outputs["share"]))

    fit(tunes, network=adapted(), callbacks=[Shares(clean)], max_steps=1)
    options = {"callbacks": [Poison(LAYER, 1), Shares(poisoned)], "max_steps": 1}
    fit(tunes, network=adapted(), nonfinite=NonFinite("skip"), **options)
    assert poisoned == [clean[0], 0.0, *clean[2:]]


def test_the_limit_ends_the_run(tunes):
    with pytest.raises(UserError, match=r"2 were left out before \(module\.nonfinite\.limit\)"):
        run(tunes, None, Poison(LAYER, (1, 2, 3)), "skip", limit=2)


@pytest.mark.parametrize("folder", [True, False])
def test_a_single_step_that_ruins_the_weights_is_an_error(tunes, tmp_path, folder):
    """The loss is measured before the update, so that of the only step is fine."""
    from functools import partial

    from musician.model.optimizer import adamw

    with pytest.raises(UserError, match=r"not finite"):
        fit(
            *(tunes, tmp_path if folder else None),
            optimizer=partial(adamw, lr=1e30),
            max_steps=1,
            limit_val_batches=0,
        )
    assert not (tmp_path / "last").exists()


@pytest.mark.parametrize("wrong", [{"policy": "ignore"}, {"limit": -1}])
def test_a_setting_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError, match=r"module\.nonfinite"):
        NonFinite(**wrong)


@pytest.fixture(scope="module")
def ranks(tunes, tmp_path_factory):
    """What two real ranks of ZeRO found, of which one makes a bad gradient in the second step."""
    pytest.importorskip("deepspeed")
    return found_by("nonfinite_ranks.py", tunes, tmp_path_factory.mktemp("ranks") / "found.json")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_zero_stops_at_the_step_and_names_the_rank(ranks, stage):
    """Rank 0 says what rank 1 found; no rank waits for another."""
    first, second = ranks[f"{stage} stop"]["ranks"]
    assert re.search(
        r"gradient is not finite at step 1, rank 1, micro-batch 1 \(sample .*layers\.1\.self_attn", first["error"]
    )
    assert second is None
    assert ranks[f"{stage} stop"]["codes"] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_leaves_the_same_step_out_as_one_process(ranks, tunes, stage):
    alone = run(tunes, None, Poison(LAYER, 7, backward=True), "skip")
    for found in ranks[f"{stage} skip"]["ranks"]:
        assert (found["error"], found["steps"], found["left_out"]) == (None, alone.trainer.global_step, 1)
        assert found["skipped"] == alone.log.column("train/skipped_steps") == [0, *[1] * (found["steps"] - 1)]
        assert found["rates"] == pytest.approx(alone.log.column("train/lr"), rel=1e-6)
        for name, weight in alone.weights().items():
            assert found["weights"][name] == pytest.approx(weight.flatten().tolist(), rel=1e-4, abs=1e-6), name
    assert "left out (1 of at most 10)" in ranks[f"{stage} skip"]["ranks"][0]["said"]
    assert alone.log.column("train/lr")[2] == alone.log.column("train/lr")[1], "the schedule waits as well"


def test_a_bad_gradient_leaves_its_whole_step_out(tunes):
    """Neither the micro-batches before nor those after it count, and Adam does not move on its moments."""
    seen = []

    class Weights(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad]))

    options = {"callbacks": [Poison(LAYER, 5, backward=True), Weights()], "nonfinite": NonFinite("skip")}
    fit(tunes, network=adapted(), max_steps=3, **options)
    assert torch.equal(seen[3], seen[7])
    assert not torch.equal(seen[7], seen[11])
