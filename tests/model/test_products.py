"""Products are those of float64, whichever library makes them, and no stride sends one into oneDNN's slow loops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from musician.model import products
from musician.model.products import choose_library, times

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@pytest.fixture(params=["onednn", "blas"])
def library(request, monkeypatch):
    if request.param == "onednn" and not HAS_ONEDNN:
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "choose_library", lambda: (request.param, "asked for by the test"))
    return request.param


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (64, 96, 33), (300, 64, 192)])
def test_products_are_those_of_float64(library, shape, turned, added):
    tokens, width, out = shape
    states, plus = made(tokens, width), made(tokens, out, seed=2) if added else None
    weight = made(width, out, seed=1).T if turned else made(out, width, seed=1)
    wanted = states.double() @ weight.double().T + (0 if plus is None else plus.double())
    before = None if plus is None else plus.clone()
    torch.testing.assert_close(times(states, weight, plus).double(), wanted, rtol=1e-5, atol=1e-4)
    assert plus is None or torch.equal(plus, before)


@pytest.mark.parametrize(
    ("states", "weight", "plus"),
    [
        pytest.param(made(9, 12)[:, 2:8], made(5, 6), None, id="columns of a wider matrix"),
        pytest.param(made(6, 9).T, made(5, 6), None, id="states the other way round"),
        pytest.param(made(9, 6), made(5, 12)[:, 3:9], None, id="columns of wider weights"),
        pytest.param(made(9, 6), made(5, 6), made(5, 9).T, id="added the other way round"),
        pytest.param(made(9, 6).double(), made(5, 6).double(), None, id="float64"),
    ],
)
def test_what_onednn_has_no_kernel_for_stays_with_blas(library, states, weight, plus, monkeypatch):
    def refuse(*_):
        raise AssertionError("oneDNN was asked")

    monkeypatch.setattr(products, "by_onednn", refuse)
    wanted = states.double() @ weight.double().T + (0 if plus is None else plus.double())
    torch.testing.assert_close(times(states, weight, plus).double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("which", range(3))
def test_a_gradient_that_is_wanted_is_not_lost(library, which):
    operands = [made(9, 6), made(5, 6), made(9, 5)]
    operands[which].requires_grad_()
    found = torch.autograd.grad(times(*operands).sum(), operands[which])
    wanted = torch.autograd.grad((operands[0] @ operands[1].T + operands[2]).sum(), operands[which])
    torch.testing.assert_close(found, wanted)


def test_the_choice_goes_by_the_processor_and_says_why(monkeypatch):
    def chosen(capability, amd):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(products, "_is_amd", lambda: amd)
        choose_library.cache_clear()
        return choose_library()

    try:
        assert chosen("AVX512", amd=False) == ("blas", "MKL is made for this processor")
        assert chosen("AVX2", amd=True)[0] == "blas"
        assert chosen("AVX512", amd=True)[0] == ("onednn" if HAS_ONEDNN else "blas")
    finally:
        choose_library.cache_clear()


GROWTH = """
import torch
from musician.model.products import by_onednn

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

torch.set_num_threads(1)
weights = [torch.randn(out, width) for out, width in ((3072, 576), (576, 1536), (960, 576), (576, 576))]
for rows in range(100, 160):
    if rows == 110:
        before = anonymous()
    for weight in weights:
        by_onednn(torch.randn(rows, weight.shape[1]), weight)
        by_onednn(torch.randn(rows, weight.shape[0]), weight.T)
print(anonymous() - before)
"""


@pytest.mark.skipif(not (HAS_ONEDNN and Path("/proc/self/status").exists()), reason="needs oneDNN on Linux")
def test_kernels_for_documents_of_all_lengths_do_not_fill_the_memory():
    def growth(**environment):
        kept = {name: value for name, value in os.environ.items() if name not in products._KERNELS_KEPT}
        done = subprocess.run(
            [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, env={**kept, **environment}
        )
        return int(done.stdout)

    assert growth() < growth(**dict.fromkeys(products._KERNELS_KEPT, "1024")) / 2
