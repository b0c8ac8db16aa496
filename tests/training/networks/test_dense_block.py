import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from noisevote.noise_op.torch_twin import drawing
from noisevote.training.networks import densenet
from noisevote.training.networks.channels import channels_of
from noisevote.training.networks.dense_block import DenseBlock
from noisevote.training.noise.draws import constant_draws, laid_out
from noisevote.training.noise.norms import estimate_norms, norms_of
from noisevote.training.noise.silent import silence
from noisevote.training.runs.recipe import Recipe
from tests.support.networks import ShallowDenseNet

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(channels_of(CPU) is None, reason="there was no compiler at install")


def network(shared: bool, free_scale: bool = True) -> ShallowDenseNet:
    torch.manual_seed(1)
    made = ShallowDenseNet(free_scale=free_scale).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # an overload torch leaves out
    for norm in norms_of(made):
        if norm.affine:  # neither 1 nor 0, or mistakes with them would not show
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
    made.shared_norms = shared
    assert isinstance(made, ShallowDenseNet)
    return made


def images(count: int) -> Tensor:
    return laid_out(torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(2)))


def gradients(of: torch.nn.Module, shown: Tensor) -> list[Tensor]:
    """Of all parameters in a row, and of the images."""
    shown = shown.clone().requires_grad_()
    cross_entropy(of(shown), torch.arange(len(shown)) % 10).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert shown.grad is not None
    own = [parameter.grad.flatten() for parameter in of.parameters() if parameter.grad is not None]
    return [torch.cat(own).double(), shown.grad.double()]


def differ(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("free_scale", [True, False])
def test_gradients_are_those_of_float64(free_scale: bool) -> None:
    """Of weights, scales, shifts and images: as the modules compute them in float64, closer than they do in float32.

    Rounding can turn a ReLU over, which is what the bound allows.
    """
    exact, plain, shared = network(False, free_scale).double(), network(False, free_scale), network(True, free_scale)
    for made in (exact, plain, shared):
        silence(made)
    expected = gradients(exact, images(8).double())
    by_modules, found = gradients(plain, images(8)), gradients(shared, images(8))
    for one, other, right in zip(found, by_modules, expected, strict=True):
        assert differ(one, right) <= max(1e-4, 2 * differ(other, right)) < 0.05


def test_under_noise_it_computes_what_the_modules_compute() -> None:
    """The same draws at every site: logits, gradients and running statistics agree but for rounding."""
    plain, shared = network(False), network(True)
    with drawing(constant_draws("multiplicative", 0.6, 3, 8, 0)):
        expected, found = gradients(plain, images(8)), gradients(shared, images(8))
        torch.testing.assert_close(shared(images(8)), plain(images(8)), rtol=1e-3, atol=1e-3)
    for one, other in zip(found, expected, strict=True):
        assert differ(one, other) < 0.02
    for (name, one), (_, other) in zip(shared.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_in_bfloat16_it_is_as_exact_as_the_modules() -> None:
    """Under autocast its signals have 16 bits, and its gradients lie no further from float32's than the modules' do."""
    draws = constant_draws("multiplicative", 0.6, 3, 16, 0)
    with drawing(draws):
        expected = gradients(network(False), images(16))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            by_modules, found = gradients(network(False), images(16)), gradients(network(True), images(16))
    for one, other, right in zip(found, by_modules, expected, strict=True):
        assert differ(one, right) <= 1.3 * differ(other, right) < 1


def test_norms_estimated_anew_are_the_same() -> None:
    """Estimating batch norms, whose statistics are plain means over batches, goes the same way."""
    recipe = Recipe(network="cifar10-densenet40", sigma_train=0.6, batch=8)
    plain, shared = network(False), network(True)
    for made in (plain, shared):
        estimate_norms(made, [images(8), 1 - images(8), images(8) / 2], recipe)
    for (name, one), (_, other) in zip(shared.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_evaluation_goes_through_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation mode, which is exported, no block is made, so nothing of this is in a published file."""
    monkeypatch.setattr(densenet, "channels_of", None)
    with drawing(constant_draws("multiplicative", 0.6, 3, 2, 0)), torch.no_grad():
        assert network(True).eval()(images(2)).shape == (2, 10)


def test_where_nothing_computes_it_the_modules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler at install, or without Triton, training goes through the modules and is the same."""
    draws = constant_draws("multiplicative", 0.6, 3, 2, 0)
    monkeypatch.setattr(densenet, "channels_of", lambda _: None)
    with drawing(draws), torch.no_grad():
        assert torch.equal(network(True)(images(2)), network(False)(images(2)))


def test_a_channel_that_never_changes_stays_finite() -> None:
    """However large its one value is, rounding leaves no variance below 0, and gradients are numbers."""
    kernels = channels_of(CPU)
    assert kernels is not None
    x = (torch.ones(2, 3, 5, 5) * torch.tensor([1.1, 12345.678, -9e5]).view(3, 1, 1)).requires_grad_()
    block, norm = DenseBlock(x, 3, 1e-5, kernels), torch.nn.BatchNorm2d(3)
    block.read(norm, block.add(x)).square().sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert block.variance.min() >= 0
    for gradient in (x.grad, norm.weight.grad, norm.bias.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_a_pass_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers go with the last gradient, without waiting for the garbage collector, or memory would run out."""
    made: list[weakref.ref[DenseBlock]] = []

    class Watched(DenseBlock):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(densenet, "DenseBlock", Watched)
    gc.collect()
    gc.disable()
    try:
        with drawing(constant_draws("multiplicative", 0.6, 3, 2, 0)):
            gradients(network(True), images(2))
        assert [block() for block in made] == [None, None, None]
    finally:
        gc.enable()


def test_a_copy_trains_on_its_own() -> None:
    """A copied network, as the average of weights is, keeps the way and shares nothing."""
    first = network(True)
    other = copy.deepcopy(first)
    with drawing(constant_draws("multiplicative", 0.6, 3, 4, 0)):
        gradients(first, images(4))
    assert other.shared_norms
    assert all(parameter.grad is None for parameter in other.parameters())
