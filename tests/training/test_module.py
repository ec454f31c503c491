"""The loss of a step is the mean over the supervised tokens of its global batch, however that is cut up (B24, B26)."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from musician.data.batches import GlobalBatches, Share, row_order
from musician.model.schedule import Constant, LogWarmupLinear, WarmupCosine
from musician.runtime.errors import UserError
from musician.training.module import CausalLMModule, PretrainModule, SFTModule

from .toys import adapted, data, fit, llama

SGD = partial(torch.optim.SGD, lr=1.0)


def documents_of_step(datamodule, step, batch=4):
    """The documents of a global batch, straight from the plan."""
    order = row_order(len(datamodule.train_rows), datamodule.seed, 0)[:14]
    rows = order[step * batch : (step + 1) * batch]
    return [datamodule.train.input_ids(d).astype("int64") for row in rows for d in datamodule.train_rows[row]]


def mean_nll(network, documents):
    """Each document alone through transformers' own model: no packing, no padding, no chunks."""
    total, tokens = 0.0, 0
    for document in documents:
        ids = torch.as_tensor(document)[None]
        logits = network(input_ids=ids, use_cache=False).logits[0, :-1]
        total = total + functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        tokens += len(document) - 1  # nothing predicts a document's first token
    return total, tokens


def sgd(network):
    return SGD([p for p in network.parameters() if p.requires_grad])


@pytest.fixture(scope="module")
def reference(tunes):
    """Losses, norms and weights of the run that computes one row at a time."""
    return fit(tunes, epochs=2)


@pytest.mark.parametrize("micro", [2, 4])
def test_a_run_does_not_depend_on_the_micro_batch(tunes, reference, micro):
    """B26: loss and gradient norm at every step, the last smaller batch of each epoch included, and val/loss."""
    run = fit(tunes, epochs=2, micro=micro)
    assert len(reference.log.column("train/loss")) == 8
    for key in ("train/loss", "train/grad_norm", "val/loss", "train/tokens_seen", "train/lr"):
        assert run.log.column(key) == pytest.approx(reference.log.column(key), rel=1e-5 if "norm" in key else 1e-6), key
    for name, weight in run.weights().items():
        torch.testing.assert_close(weight, reference.weights()[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("micro", "world"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
@pytest.mark.parametrize("step", [0, 3])
def test_gradients_of_every_split_are_those_of_the_documents_one_by_one(tunes, micro, world, step):
    """B24, B26: summed over micro-batches, averaged over ranks as ZeRO does; step 3 has 2 rows only."""
    datamodule = data(tunes)
    datamodule.setup()
    network = llama()
    twin = copy.deepcopy(network)
    total, predicted = mean_nll(twin, documents_of_step(datamodule, step))
    module = PretrainModule(network, sgd, Constant())
    module.trainer = SimpleNamespace(
        accumulate_grad_batches=4 // micro // world,
        world_size=world,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )
    module.log = lambda *_, **__: None
    shares, supervised = 0.0, set()
    for rank in range(world):
        order = row_order(len(datamodule.train_rows), 3, 0)[:14]
        share = Share(micro, rank, world)
        batches = GlobalBatches(datamodule.train, datamodule.train_rows, order, 4, share, first_step=step)
        for index in range(4 // micro // world):
            batch = batches[index]
            output = module.training_step(batch, index)
            (output["loss"] / (4 // micro // world) / world).backward()
            shares += output["share"]
            supervised.add(batch["supervised_in_global_batch"])
    assert supervised == {predicted}
    (total / predicted).backward()
    torch.testing.assert_close(shares, total.detach() / predicted, rtol=1e-6, atol=0)
    for (name, one), other in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_first_logged_losses_are_those_of_the_documents(tunes):
    """B24: val/loss is the token mean over everything held out, not a mean of means."""
    network = llama()
    run = fit(tunes, network=copy.deepcopy(network), optimizer=lambda n: torch.optim.SGD(n.parameters(), lr=0.0))
    datamodule = data(tunes)
    datamodule.setup()
    with torch.no_grad():
        total, predicted = mean_nll(network, documents_of_step(datamodule, 0))
        assert run.log.column("train/loss")[0] == pytest.approx(float(total) / predicted, rel=1e-6)
        rows = datamodule._plan(datamodule.validation)
        order = row_order(len(rows), 0, 0)[:5]
        held_out = [datamodule.validation.input_ids(d).astype("int64") for row in order for d in rows[row]]
        total, predicted = mean_nll(network, held_out)
    assert run.log.column("val/loss") == [pytest.approx(float(total) / predicted, rel=1e-6)]


@pytest.mark.parametrize("clip", [1.0, 0.05])
@pytest.mark.parametrize("micro", [1, 4])
def test_clipping_happens_once(tunes, clip, micro):
    """B21: with plain SGD and a rate of 1 the update is the clipped gradient; the log has the norm before clipping."""
    network = llama(scale=0.6)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    datamodule = data(tunes)
    datamodule.setup()
    twin = copy.deepcopy(network)
    total, predicted = mean_nll(twin, documents_of_step(datamodule, 0))
    (total / predicted).backward()
    planted = float(torch.stack([p.grad.norm() for p in twin.parameters()]).norm())
    assert planted > 2 * clip, "the gradient is too small to be clipped"
    run = fit(tunes, network=network, optimizer=sgd, schedule=Constant(), clip=clip, micro=micro, max_steps=1)
    updates = [(before[name] - p.detach()).norm() for name, p in run.module.network.named_parameters()]
    assert float(torch.stack(updates).norm()) == pytest.approx(clip, rel=1e-4)
    assert run.log.column("train/grad_norm") == [pytest.approx(planted, rel=1e-4)]


def test_a_gradient_below_the_limit_is_not_touched(tunes):
    """B21."""
    network = llama()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    run = fit(tunes, network=network, optimizer=sgd, schedule=Constant(), clip=1e6, max_steps=1)
    updates = [(before[name] - p.detach()).norm() for name, p in run.module.network.named_parameters()]
    assert run.log.column("train/grad_norm") == [pytest.approx(float(torch.stack(updates).norm()), rel=1e-4)]


@pytest.mark.parametrize("schedule", [WarmupCosine(0.3, 0.1), LogWarmupLinear(0.4), Constant()])
@pytest.mark.parametrize("micro", [1, 4])
def test_the_logged_rate_is_the_one_used(tunes, schedule, micro):
    """B19: with a gradient clipped to 1 and plain SGD, each update's norm is the rate."""
    norms = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            if closure is not None:
                with torch.enable_grad():
                    closure()
            weights = [p for group in self.param_groups for p in group["params"]]
            before = [p.detach().clone() for p in weights]
            super().step()
            norms.append(float(torch.stack([(a - b).norm() for a, b in zip(before, weights, strict=True)]).norm()))

    run = fit(
        tunes,
        network=llama(scale=0.6),
        optimizer=lambda n: Watched(n.parameters(), lr=0.01),
        schedule=schedule,
        clip=0.1,
        epochs=2,
        micro=micro,
    )
    wanted = [0.01 * schedule.factor(step, 8) for step in range(8)]
    assert run.log.column("train/lr") == pytest.approx(wanted, rel=1e-6)
    assert norms == pytest.approx([0.1 * rate for rate in wanted], rel=2e-3)


def test_bf16_with_the_frozen_base_in_bf16_trains_as_fp32_does(tunes, tmp_path):
    """Trained weights stay fp32; a resumed run ends with the same bits."""

    def network(frozen):
        found = adapted(modules_to_save=["lm_head"])
        for parameter in found.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
        return found

    exact = fit(tunes, network=network(torch.float32))
    run = fit(tunes, tmp_path, network=network(torch.bfloat16), precision="bf16-mixed", every_n_steps=2, keep=9)
    assert {weight.dtype for weight in run.weights().values()} == {torch.float32}
    for name in ("train/loss", "val/loss"):
        assert run.log.column(name) == pytest.approx(exact.log.column(name), rel=0.02)
    state = str(tmp_path / "step-000002" / "state.ckpt")
    resumed = fit(tunes, network=network(torch.bfloat16), precision="bf16-mixed", resume=state)
    assert all(torch.equal(weight, resumed.weights()[name]) for name, weight in run.weights().items())
    assert "bfloat16" in next(c.peak for c in run.trainer.callbacks if hasattr(c, "peak"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tunes, tmp_path, bad):
    """B23: it never spreads into later figures; the checkpoint before it stays."""
    from pytorch_lightning.callbacks import Callback

    class Plant(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 9:
                with torch.no_grad():
                    pl_module.network.get_base_model().lm_head.weight[5] = bad

    with pytest.raises(UserError, match=r"loss is \w+ at step 2, rank 0, micro-batch 1 ") as caught:
        fit(tunes, tmp_path, every_n_steps=2, callbacks=[Plant()])
    assert "\n" not in str(caught.value)
    state = torch.load(tmp_path / "last" / "state.ckpt", weights_only=False)
    assert state["global_step"] == 2
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_the_state_holds_what_is_trained_and_nothing_else():
    """Adapter-only checkpoints."""
    module = CausalLMModule(adapted(modules_to_save=["lm_head"]), sgd, Constant())
    assert set(module.state_dict()) == {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any("base_layer" in name for name in module.state_dict())


def test_tied_weights_are_in_the_state_under_each_of_their_names():
    """So that loading does not depend on which name comes first."""
    module = CausalLMModule(llama(tie_word_embeddings=True), sgd, Constant())
    state = module.state_dict()
    assert torch.equal(state["network.lm_head.weight"], state["network.model.embed_tokens.weight"])


def test_random_states_come_back():
    """Of torch, numpy and python."""
    import random

    import numpy as np

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]

    module = CausalLMModule(llama(), sgd, Constant())
    module.trainer = SimpleNamespace(accumulate_grad_batches=1, global_rank=0, precision="32-true")
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    wanted = draw()
    module.on_load_checkpoint(checkpoint)
    draw()
    module.on_train_start()
    assert draw() == wanted
    later = draw()
    module.on_train_start()
    assert draw() not in (wanted, later), "restored once, not whenever training starts"


def test_a_run_without_held_out_data_trains(tunes):
    from musician.training.datamodule import TokenDataModule

    datamodule = data(tunes, validation_fraction=0.0)
    assert isinstance(datamodule, TokenDataModule)
    datamodule.setup()
    assert datamodule.val_dataloader() == []


def test_the_two_modules_differ_in_their_data_only():
    """The labels carry the mask."""
    for kind in (PretrainModule, SFTModule):
        own = {name for name in vars(kind) if not name.startswith("__")}
        assert own <= {"objective"}
