import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisevote.training.networks.channels import Channels, channels_of
from noisevote.training.networks.native_channels import ISAS, NativeChannels
from noisevote.training.networks.native_channels import load as load_native

CPU = torch.device("cpu")
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2**-8}  # of one number, relative


def native(isa: str) -> NativeChannels:
    found = load_native()
    if found is None or isa not in found.isas():
        pytest.skip(f"this processor or build has no {isa}")
    return found.of(isa)


def triton(monkeypatch: pytest.MonkeyPatch) -> tuple[Channels, torch.device, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")  # looked at when Triton is imported
    pytest.importorskip("triton", reason="Triton is not installed; torch brings it along for CUDA")
    module = importlib.import_module("noisevote.training.networks.triton_channels")
    monkeypatch.setattr(module, "_RANGES", 3)
    return module.load(), device, 1 if device.type == "cuda" else 2  # interpreted, Triton cuts instead of rounding


def check(
    kernels: Channels, rows: int, channels: int, dtype: torch.dtype, seed: int, device: torch.device = CPU,
    coarser: float = 1,
) -> None:  # fmt: skip  # what is checked, where and how
    """Compare the four functions, on columns in the midst of a larger matrix, with the formulas in float64."""
    draws = torch.Generator().manual_seed(seed)

    def numbers(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=draws).to(of).to(device)

    stride, at = channels + 7, 3
    own = slice(at, at + channels)
    scale, shift, weight = numbers(channels), numbers(channels), numbers(channels)
    x, g = numbers(rows, channels, of=dtype), numbers(rows, channels, of=dtype)
    signals, gradient = numbers(rows, stride, of=dtype), numbers(rows, stride, of=dtype)
    signals_before, gradient_before = signals.clone(), gradient.clone()

    def close(found: Tensor, expected: Tensor) -> None:
        assert found.dtype == dtype
        most = coarser * ROUNDING[dtype]
        torch.testing.assert_close(found.double(), expected, rtol=most, atol=most)

    def close_sums(found: Tensor, *summed: Tensor) -> None:
        assert (found.dtype, found.shape) == (torch.float64, (2, channels))
        exact = torch.stack([terms.sum(0) for terms in summed])
        most = torch.stack([terms.abs().sum(0) for terms in summed])
        assert ((found - exact).abs() <= 1e-5 * most + 1e-9).all()

    wide = x.double()
    close_sums(kernels.place(x, signals[:, own]), wide, wide * wide)
    assert torch.equal(signals[:, own], x)
    z = wide * scale.double() + shift.double()
    close(kernels.activate(signals[:, own], scale, shift), z.clamp(min=0))
    passed = (signals[:, own].float() * scale + shift > 0) | ((z.abs() < 1e-5) & (z > 0))
    dz = torch.where(passed, g.double(), 0.0)
    for first in (True, False):
        before = torch.zeros_like(dz) if first else gradient[:, own].double()
        sums = kernels.collect(g, signals[:, own], scale, shift, weight, gradient[:, own], first)
        close_sums(sums, dz, dz * wide)
        close(gradient[:, own], before + dz * weight.double())
    expected = gradient[:, own].double() * scale.double() - wide * shift.double() - weight.double()
    close(kernels.through(gradient[:, own], signals[:, own], scale, shift, weight), expected)
    for changed, was in ((signals, signals_before), (gradient, gradient_before)):
        changed[:, own] = was[:, own]
        assert torch.equal(changed, was), "columns beside those that were meant have changed"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native_functions_compute_their_formulas(isa: str, dtype: torch.dtype) -> None:
    """By each instruction set, at any numbers of rows and channels; what lies beside them is not touched."""
    kernels = native(isa)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 2**32))
    def holds(rows: int, channels: int, seed: int) -> None:
        check(kernels, rows, channels, dtype, seed)

    holds()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (100, 12), (64, 32), (1000, 40), (130, 100)])
def test_triton_kernels_compute_their_formulas(
    rows: int, channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a graphics card, or interpreted where Triton is installed without one: the formulas of `Channels`."""
    kernels, device, coarser = triton(monkeypatch)
    check(kernels, rows, channels, dtype, rows, device, coarser)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_same_threads_make_the_same_sums(threads: int) -> None:
    """Sums are added in the order of rows, whichever thread ends first, so that training can be repeated bit by bit."""
    kernels = channels_of(CPU)
    if kernels is None:
        pytest.skip("there was no compiler at install")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(10_007, 21, generator=torch.Generator().manual_seed(1)) * 1e3
        into = torch.empty(len(x), 40)
        first = kernels.place(x, into[:, 5:26])
        assert all(torch.equal(first, kernels.place(x, into[:, 5:26])) for _ in range(50))
    finally:
        torch.set_num_threads(before)


def test_what_is_not_a_number_stays_so() -> None:
    """A signal that is not a number stays so behind the ReLU, and its channel's sums say it, in both directions."""
    kernels = channels_of(CPU)
    if kernels is None:
        pytest.skip("there was no compiler at install")
    one = torch.ones(3)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.tensor([[1.0, float("nan"), -1.0]], dtype=dtype)
        assert torch.equal(kernels.activate(x, one, 0 * one).isnan(), torch.tensor([[False, True, False]]))
        assert kernels.place(x, x.clone())[0].isnan().tolist() == [False, True, False]
        sums = kernels.collect(x, x, one, 0 * one, one, torch.empty_like(x), True)
        assert sums[0].isnan().tolist() == [False, True, False]
