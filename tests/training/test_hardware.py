"""The machine decides how a global batch is cut, and refuses what it cannot do."""

import os
from types import SimpleNamespace

import pytest
from commands import composed, options
from hydra.utils import instantiate
from hypothesis import assume, given
from hypothesis import strategies as st

from musician.runtime.errors import UserError
from musician.runtime.hardware import Hardware, restrict_attention

from .toys import data

sizes = st.integers(1, 16)


@given(sizes, sizes, sizes, st.integers(1, 64))
def test_an_accepted_split_covers_the_global_batch_exactly(micro, devices, nodes, steps):
    """B27: micro * accumulation * world == global batch."""
    machine = Hardware("m", devices=devices, num_nodes=nodes, micro_batch_size=micro)
    assert machine.world_size == devices * nodes
    assert machine.accumulation_steps(micro * devices * nodes * steps) == steps


@given(sizes, sizes, sizes, st.integers(1, 5000))
def test_any_other_split_is_refused_with_its_numbers(micro, devices, nodes, batch):
    """B27: the original computes 0 for 16 GPUs, and a global batch of 6 for 3."""
    assume(batch % (micro * devices * nodes))
    with pytest.raises(UserError) as caught:
        Hardware("m", devices=devices, num_nodes=nodes, micro_batch_size=micro).accumulation_steps(batch)
    message = str(caught.value)
    assert "\n" not in message
    for text in (f"global_batch_size={batch}", "hardware=m", f"{nodes} nodes", f"{devices} devices", f"{micro})"):
        assert text in message


@pytest.mark.parametrize(("devices", "nodes"), [(8, 2), (3, 1)])
def test_the_originals_two_mistakes_are_refused(devices, nodes):
    """B27."""
    with pytest.raises(UserError, match="global_batch_size=8 is not a multiple"):
        Hardware("m", devices=devices, num_nodes=nodes).accumulation_steps(8)


@given(st.integers(0, 300), st.integers(1, 64), st.integers(1, 256))
def test_workers_never_exceed_a_ranks_share_of_the_cores(workers, devices, cores):
    """B17: the original asks for 200 a rank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: cores)
        found = Hardware("m", devices=devices, num_workers=workers).workers_per_rank
    assert 0 <= found <= workers
    assert found * devices <= cores
    assert found == min(workers, cores // devices)


V100 = ("Tesla V100-SXM2-32GB", (7, 0))


def test_a_torch_without_kernels_for_the_card_names_the_pin():
    machine = Hardware("8xv100", "gpu", precision="16-mixed", torch_pin="torch==2.10.0")
    with pytest.raises(UserError, match=r"V100.*sm_70.*install torch==2\.10\.0"):
        machine.check_card(*V100, ["sm_75", "sm_80", "sm_90"])
    machine.check_card(*V100, ["sm_70", "sm_80"])
    with pytest.raises(UserError, match="a build of torch with its architecture"):
        Hardware("m", "gpu").check_card(*V100, ["sm_80"])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bf16_is_refused_where_it_would_be_emulated(precision):
    """torch itself says that sm_70 supports it."""
    machine = Hardware("m", "gpu", precision=precision)
    with pytest.raises(UserError, match=rf"hardware\.precision={precision}.*sm_70.*use 16-mixed"):
        machine.check_card(*V100, ["sm_70"])
    with pytest.raises(UserError, match="sm_75"):
        machine.check_card("T4", (7, 5), ["sm_75"])
    machine.check_card("A800", (8, 0), ["sm_80"])
    machine.check_card("H200", (9, 0), ["sm_90"])


def test_a_card_of_a_listed_family_is_accepted():
    Hardware("m", "gpu").check_card("L4", (8, 9), ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])


@pytest.mark.parametrize("precision", ["16-mixed", "16-true"])
def test_half_precision_on_the_cpu_is_refused(precision):
    with pytest.raises(UserError, match="on CPU use 32-true"):
        Hardware("m", precision=precision).check()
    Hardware("m", precision="32-true").check()


@pytest.mark.parametrize(("found", "hint"), [(0, "hardware=cpu"), (2, "hardware.devices=2")])
def test_too_few_gpus_name_what_fits(monkeypatch, found, hint):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    with pytest.raises(UserError, match=rf"needs 8 GPUs on this node, found {found}.*{hint}"):
        Hardware("8xv100", "gpu", devices=8).check()


def test_fp16_without_deepspeeds_loss_scale_is_refused():
    with pytest.raises(UserError, match=r"precision=16-mixed with hardware\.strategy=auto"):
        Hardware("m", "gpu", precision="16-mixed").check()


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_without_kernels_for_the_card_is_refused(attention):
    machine = Hardware("8xv100", "gpu", precision="16-mixed", attn_implementation=attention)
    with pytest.raises(UserError, match=rf"attn_implementation={attention}.*sm_70.*use sdpa"):
        machine.check_card(*V100, ["sm_70"])
    machine.check_card("A800", (8, 0), ["sm_80"])


@pytest.fixture
def kernels():
    """Which SDPA kernels torch may choose; set back afterwards."""
    from torch.backends import cuda

    names = ("flash", "cudnn", "math", "mem_efficient")

    def enabled():
        return {name for name in names if getattr(cuda, f"{name}_sdp_enabled")()}

    before = enabled()
    yield enabled
    for name in names:
        getattr(cuda, f"enable_{name}_sdp")(name in before)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_before_ampere_attention_is_memory_efficient_or_an_error(kernels, capability):
    reason = restrict_attention(capability)
    assert kernels() == {"mem_efficient"}
    assert f"{capability[0]}.{capability[1]} is below 8.0" in reason
    assert "\n" not in reason


def test_from_ampere_on_every_kernel_stays(kernels):
    before = kernels()
    assert restrict_attention((8, 0)) is None
    assert kernels() == before


def test_a_v100_node_is_checked_and_restricted_at_the_start(monkeypatch, kernels):
    import torch

    answers = {
        "device_count": 8,
        "get_device_capability": (7, 0),
        "get_device_name": V100[0],
        "get_arch_list": ["sm_70"],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    Hardware("8xv100", "gpu", devices=8, precision="16-mixed", strategy={"stage": 2}).check()
    assert kernels() == {"mem_efficient"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attn_implementation": "sdap"}, r"sdap is not known \(did you mean 'sdpa'\?\); use one of"),
        ({"attn_implementation": "flash_attention_2"}, "needs a GPU; on CPU use documents or sdpa"),
        ({"attn_implementation": "flex_attention"}, "needs a GPU"),
    ],
)
def test_an_attention_that_this_machine_cannot_compute_is_refused_before_anything_is_loaded(options, words):
    with pytest.raises(UserError, match=words) as caught:
        Hardware("m", **options).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("native", "precision", "dtype"), [("1", "bf16-mixed", "bfloat16"), ("0", "32-true", "float32")]
)
def test_a_cpu_computes_in_what_it_multiplies_natively(monkeypatch, native, precision, dtype):
    monkeypatch.setenv("MUSICIAN_NATIVE_BF16", native)
    machine = instantiate(composed("train", "+experiment=smoke").hardware, _convert_="all")
    assert (machine.precision, machine.dtype) == (precision, dtype)


@pytest.mark.parametrize(
    ("asked", "dtype"), [("32-true", "float32"), ("bf16-mixed", "bfloat16"), ("bf16-true", "bfloat16")]
)
def test_the_type_of_the_frozen_weights_follows_a_precision_that_is_asked_for(monkeypatch, asked, dtype):
    for native in "01":
        monkeypatch.setenv("MUSICIAN_NATIVE_BF16", native)
        machine = instantiate(composed("train", "+experiment=smoke", f"hardware.precision={asked}").hardware)
        assert (machine.precision, machine.dtype) == (asked, dtype)


@pytest.mark.parametrize(
    ("listing", "native"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512vl\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("model name\t: bf16 edition\nflags\t\t: fpu\n", False),
    ],
)
def test_native_bf16_is_what_linux_lists(monkeypatch, tmp_path, listing, native):
    import musician.runtime.hardware as hardware

    monkeypatch.delenv("MUSICIAN_NATIVE_BF16")
    (tmp_path / "cpuinfo").write_text(listing)
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "cpuinfo")
    assert hardware.native_bf16() is native


def test_flash_attention_in_full_precision_is_refused():
    with pytest.raises(UserError, match="needs 16 bits"):
        Hardware("m", "gpu", precision="32-true", attn_implementation="flash_attention_2").check_card(
            "A800", (8, 0), ["sm_80"]
        )


@pytest.mark.parametrize("attention", ["documents", "sdpa", "eager"])
def test_what_needs_no_kernels_of_its_own_passes(attention):
    Hardware("m", attn_implementation=attention).check()


@pytest.fixture(scope="module")
def course(tunes):
    """What a machine does in two epochs of 40 rows: the documents of each step in their order, and the rates."""

    def of(name):
        config = composed("train", "+experiment=smoke", f"hardware={name}", "global_batch_size=16")
        machine = instantiate(config.hardware, _convert_="all")
        module = data(tunes, machine.micro_batch_size, config.global_batch_size, rows=40, packing=False)
        module.setup()
        steps, accumulation = [], machine.accumulation_steps(config.global_batch_size)
        for epoch in range(2):
            shares = []
            for rank in range(machine.world_size):
                module.trainer = SimpleNamespace(global_rank=rank, world_size=machine.world_size)
                shares.append(module.training_batches(epoch, 0))
            for step in range(shares[0].num_steps):
                turns = range(step * accumulation, (step + 1) * accumulation)
                rows = [row.tolist() for turn in turns for share in shares for row in share.documents(turn)]
                steps.append(rows)
        schedule = instantiate(config.recipe.schedule)
        peak = instantiate(config.optimizer).keywords["lr"]
        return steps, [peak * schedule.factor(step, len(steps)) for step in range(len(steps))]

    return of


@pytest.mark.parametrize("name", options("hardware"))
def test_every_machine_takes_the_same_rows_at_the_same_rates(course, name):
    steps, rates = course(name)
    wanted = course("cpu")
    assert [len(rows) for rows in steps] == [16, 16, 8] * 2
    assert (steps, rates) == wanted
    assert steps[:3] != steps[3:], "each epoch has an order of its own"
    assert len(set(rates)) > 3
