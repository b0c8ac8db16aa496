import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from noise_op.contract import NoiseKind, snr_db
from noise_op.torch_twin import Draws, GaussianNoise, drawing
from training.data.examples import Examples
from training.networks.layers import Counts, NoisyLayer, count, fold
from training.networks.network import Network
from training.networks.registry import UnknownNetworkError, build
from training.train import constant_draws


def network_with_statistics(kind: NoiseKind, digits: Examples) -> Network:
    """A network whose batch norms have seen data and, where they are free, have scales and shifts of their own."""
    torch.manual_seed(3)
    network = build("mnist-cnn", kind)
    for norm in norms(network):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    images = torch.from_numpy(digits.values(slice(None)))
    for vote in range(5):
        with torch.no_grad(), drawing(constant_draws(kind, 0.5, 1, len(images), vote * len(images))):
            network(images)
    return network.eval()


def norms(network: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """All batch norms, in order."""
    return [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


def sites(network: nn.Module) -> list[GaussianNoise]:
    """All noise sites, in order."""
    return [module for module in network.modules() if isinstance(module, GaussianNoise)]


def test_counts_are_those_worked_out_by_hand() -> None:
    """Parameters, multiply-accumulates and samples of a vote equal the sums over the paper's six layers."""
    torch.manual_seed(0)
    convolutions = [(28, 1, 32), (28, 32, 32), (14, 32, 64), (14, 64, 64)]  # side, channels in and out
    linear = [(3136, 256), (256, 10)]
    expected = Counts(
        parameters=sum(9 * i * o + o for _, i, o in convolutions) + sum(i * o + o for i, o in linear),
        macs=sum(side * side * 9 * i * o for side, i, o in convolutions) + sum(i * o for i, o in linear),
        samples=sum(side * side * o for side, _, o in convolutions) + sum(o for _, o in linear),
        noisy_layers=6,
    )
    assert count(build("mnist-cnn", "multiplicative")) == expected
    assert expected == Counts(870634, 19094528, 75530, 6)


def test_every_product_has_its_own_site_in_order() -> None:
    """Sites are 0 to 5 in the order of computation, ReLU is fused in all but the last, votes fan out at the first."""
    found = sites(build("mnist-cnn", "multiplicative"))
    assert [site.site for site in found] == [0, 1, 2, 3, 4, 5]
    assert [site.activation for site in found] == ["relu"] * 5 + ["none"]
    assert [site.fan_out for site in found] == [True] + [False] * 5


@pytest.mark.parametrize(("kind", "free"), [("multiplicative", True), ("additive", False)])
def test_additive_noise_fixes_scale_and_shift(kind: NoiseKind, free: bool) -> None:
    """Under additive noise no batch norm can raise its signal above the noise; under multiplicative it may."""
    found = norms(build("mnist-cnn", kind))
    assert len(found) == 5
    assert all(norm.affine is free for norm in found)


@pytest.mark.parametrize("kind", ["multiplicative", "additive"])
def test_folding_batch_norms_is_exact(kind: NoiseKind, digits: Examples) -> None:
    """With the same draws the folded network has the same logits up to float rounding, under full noise."""
    network = network_with_statistics(kind, digits)
    folded = fold(network)
    assert norms(folded) == []
    images = torch.from_numpy(digits.values(slice(None)))
    with torch.no_grad(), drawing(constant_draws(kind, 1.0, 9, len(images), 0)):
        expected, found = network(images), folded(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_folding_leaves_the_network_as_it_was(digits: Examples) -> None:
    """Folding works on a copy: training may go on with the original."""
    network = network_with_statistics("multiplicative", digits)
    before = copy.deepcopy(network.state_dict())
    fold(network)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@dataclass(frozen=True)
class Powers:
    """Mean squares at one site: of the signal, of what was added to it, and the mean of the latter."""

    signal: float
    noise: float
    offset: float


def mean(values: Tensor) -> float:
    """Mean, summed in double precision."""
    return float(values.mean(dtype=torch.float64))


def powers_at_sites(kind: NoiseKind, sigma: float, digits: Examples) -> list[Powers]:
    """Measured at each site, before the activation, over 64 votes of 8 digits."""
    network = network_with_statistics(kind, digits)
    row = torch.arange(8).repeat_interleave(64)
    found: list[Powers] = []

    def record(site: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        signal = inputs[0] if len(inputs[0]) == len(output) else inputs[0].index_select(0, row)
        noise = output - signal
        powers = Powers(mean(signal.square()), mean(noise.square()), mean(noise))
        found.append(powers)

    for site in sites(network):
        site.activation = "none"
        site.register_forward_hook(record)
    draws = constant_draws(kind, sigma, 5, len(row), 0)
    images = torch.from_numpy(digits.values(slice(8)))
    with torch.no_grad(), drawing(Draws(draws.sigma, draws.seed, draws.vote, row)):
        network(images)
    return found


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_multiplicative_noise_has_the_stated_ratio_at_every_site(sigma: float, digits: Examples) -> None:
    """Power of the signal over power of the noise is −20·log10(sigma) dB at each of the six sites, within 0.3 dB."""
    found = powers_at_sites("multiplicative", sigma, digits)
    assert len(found) == 6
    for powers in found:
        assert 10 * math.log10(powers.signal / powers.noise) == pytest.approx(snr_db(sigma), abs=0.3)


def test_additive_noise_has_the_stated_deviation_at_every_site(digits: Examples) -> None:
    """The added noise has mean 0 and standard deviation sigma at each of the six sites, whatever the signal."""
    found = powers_at_sites("additive", 0.6, digits)
    assert len(found) == 6
    for powers in found:
        assert math.sqrt(powers.noise) == pytest.approx(0.6, rel=0.03)
        assert powers.offset == pytest.approx(0.0, abs=0.03)


def test_unknown_network_names_the_known_ones() -> None:
    """A misspelt network is answered with the names that exist."""
    with pytest.raises(UnknownNetworkError, match=r"'mnist-cnm'.*mnist-cnn"):
        build("mnist-cnm", "multiplicative")


def test_layer_without_batch_norm_folds_to_itself() -> None:
    """The last layer has no batch norm, as in Table 1, and is left as it is."""
    layer = NoisyLayer(nn.Linear(4, 2), None, GaussianNoise(0))
    assert layer.folded() is layer
