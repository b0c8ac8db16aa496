import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind, snr_db
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.data.registry import LOADERS
from noisevote.training.networks.layers import NoisyLayer, fold
from noisevote.training.networks.mnist_cnn import MnistCnn
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import NETWORKS, UnknownNetworkError, build, named
from noisevote.training.networks.smoothed import Smoothed
from noisevote.training.noise.draws import constant_draws
from noisevote.training.publish import export
from noisevote.training.runs.recipe import Recipe
from tests.support.networks import NarrowCifarCnn, ShallowDenseNet
from tests.support.onnx_sessions import session

every_network = pytest.mark.parametrize("name", NETWORKS)
# Networks whose one site is at the input are tested in test_smoothed.py.
ANALOG = [name for name, kind in NETWORKS.items() if not issubclass(kind, Smoothed)]
# A recurrent network computes a site several times and has no batch norms: its tests are its own.
# DenseNet-100 is DenseNet-40 with more of the same; test_densenet.py counts its layers.
IMAGE_NETWORKS = [n for n in ANALOG if len(named(n).input_shape) == 3 and n != "cifar10-densenet100"]
every_image_network = pytest.mark.parametrize("name", IMAGE_NETWORKS)
# Where a network computes, a DenseNet of depth 10 shows what one of depth 40 does, and a CNN with a quarter of its
# channels what the whole one does, in a fifth of the time: they are made of the same layers at the same sites.
every_kind_of_image_network = pytest.mark.parametrize(
    "network", [MnistCnn, NarrowCifarCnn, ShallowDenseNet], ids=["mnist-cnn", "narrow-cifar10-cnn", "shallow-densenet"]
)


def inputs_of(network: type[Network], examples: dict[str, Examples], count: int) -> Tensor:
    """The first inputs of the network's data set."""
    return torch.from_numpy(examples[network.data_set].values(slice(count)))


# Networks that were made, by kind of network and noise.
_WITH_STATISTICS: dict[tuple[type[Network], NoiseKind], Network] = {}


def network_with_statistics(made: type[Network], kind: NoiseKind, examples: dict[str, Examples]) -> Network:
    """A network whose batch norms have seen data and, where they are free, have scales and shifts of their own."""
    if (made, kind) not in _WITH_STATISTICS:
        _WITH_STATISTICS[made, kind] = _with_statistics(made, kind, examples)
    return copy.deepcopy(_WITH_STATISTICS[made, kind])


def _with_statistics(made: type[Network], kind: NoiseKind, examples: dict[str, Examples]) -> Network:
    torch.manual_seed(3)
    network = made(free_scale=kind == "multiplicative")
    for norm in norms(network):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    inputs = inputs_of(made, examples, 32)
    for vote in range(5):
        with torch.no_grad(), drawing(constant_draws(kind, 0.5, 1, len(inputs), vote * len(inputs))):
            network(inputs)
    return network.eval()


def norms(network: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """All batch norms, in order."""
    return [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


def sites(network: nn.Module) -> list[GaussianNoise]:
    """All noise sites, in order."""
    return [module for module in network.modules() if isinstance(module, GaussianNoise)]


@every_network
def test_network_says_what_it_takes(name: str) -> None:
    """A network's data set exists, its recipe is a valid one, and it says what it is in words."""
    network = named(name)
    assert network.data_set in LOADERS
    Recipe.model_validate({**network.recipe_defaults, "network": name})
    assert network.title
    assert network.description
    assert network.preprocessing


@every_image_network
@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_every_product_has_its_own_site_in_order(name: str, kind: NoiseKind) -> None:
    """Sites are 0, 1, … in the order of computation, one after each product; votes fan out at the first alone."""
    network = build(name, kind).eval()
    computed: list[int] = []

    def record(site: nn.Module, _: tuple[Tensor, ...], __: Tensor) -> None:
        assert isinstance(site, GaussianNoise)
        computed.append(site.site)

    for site in sites(network):
        site.register_forward_hook(record)
    with torch.no_grad(), drawing(constant_draws(kind, 0.5, 1, 1, 0)):
        network(torch.zeros(1, *network.input_shape))
    products = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert computed == list(range(len(products)))
    assert [site.site for site in sites(network) if site.fan_out] == [0]
    assert sites(network)[-1].activation == "none"


@pytest.mark.parametrize("name", ANALOG)
def test_last_site_alone_may_answer_several_times(name: str) -> None:
    """Training on averaged output draws finds exactly one site to draw them at: the one that makes the logits."""
    network = build(name, "multiplicative")
    assert [site.site for site in sites(network) if site.output] == [max(site.site for site in sites(network))]


@every_image_network
@pytest.mark.parametrize(("kind", "free"), [("multiplicative", True), ("additive", False)])
def test_additive_noise_fixes_scale_and_shift(name: str, kind: NoiseKind, free: bool) -> None:
    """Under additive noise no batch norm can raise its signal above the noise; under multiplicative it may."""
    found = norms(build(name, kind))
    assert found or name == "mnist-madry"  # which has none
    assert all(norm.affine is free for norm in found)


@every_kind_of_image_network
@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_folding_batch_norms_is_exact(network: type[Network], kind: NoiseKind, examples: dict[str, Examples]) -> None:
    """With the same draws the folded network has the same logits up to float rounding, under full noise."""
    made = network_with_statistics(network, kind, examples)
    folded = fold(made)
    left = [module.norm for module in folded.modules() if isinstance(module, NoisyLayer)]
    assert left == [None] * len(sites(made))
    inputs = inputs_of(network, examples, 16)
    with torch.no_grad(), drawing(constant_draws(kind, 1.0, 9, len(inputs), 0)):
        expected, found = made(inputs), folded(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_folding_leaves_the_network_as_it_was(examples: dict[str, Examples]) -> None:
    """Folding works on a copy: training may go on with the original."""
    network = network_with_statistics(MnistCnn, "multiplicative", examples)
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


def powers_at_sites(made: type[Network], kind: NoiseKind, sigma: float, examples: dict[str, Examples]) -> list[Powers]:
    """Measured at each site, before the activation, over 64 votes of 4 inputs."""
    network = network_with_statistics(made, kind, examples)
    row = torch.arange(4).repeat_interleave(64)
    found: list[Powers] = []

    def record(site: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        signal = inputs[0] if len(inputs[0]) == len(output) else inputs[0].index_select(0, row)
        noise = output - signal
        found.append(Powers(*(float(values.mean()) for values in (signal.square(), noise.square(), noise))))

    for site in sites(network):
        site.activation = "none"
        site.register_forward_hook(record)
    draws = constant_draws(kind, sigma, 5, len(row), 0)
    with torch.no_grad(), drawing(Draws(draws.sigma, draws.seed, draws.vote, row)):
        network(inputs_of(made, examples, 4))
    assert len(found) == len(sites(network))
    return found


@every_kind_of_image_network
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_multiplicative_noise_has_the_stated_ratio_at_every_site(
    network: type[Network], sigma: float, examples: dict[str, Examples]
) -> None:
    """Power of the signal over power of the noise is −20·log10(sigma) dB at each site, within 0.3 dB."""
    for powers in powers_at_sites(network, "multiplicative", sigma, examples):
        assert 10 * math.log10(powers.signal / powers.noise) == pytest.approx(snr_db(sigma), abs=0.3)


@every_kind_of_image_network
def test_additive_noise_has_the_stated_deviation_at_every_site(
    network: type[Network], examples: dict[str, Examples]
) -> None:
    """The added noise has mean 0 and standard deviation sigma at each site, whatever the signal."""
    for powers in powers_at_sites(network, "additive", 0.6, examples):
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


@every_kind_of_image_network
def test_file_and_network_decide_alike(network: type[Network], examples: dict[str, Examples], tmp_path: Path) -> None:
    """The exported file has the network's logits for mixed rows on the kernel, and for one row on the function body."""
    made = network_with_statistics(network, "multiplicative", examples)
    file = tmp_path / "variant.onnx"
    export.write(export.export(made, Recipe()), file)
    inputs, row = inputs_of(network, examples, 3), torch.tensor([2, 0, 1, 1, 0])
    sigma = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 0.3], [0.2, 0.2]])
    draws = Draws(sigma, torch.arange(5) - 2, torch.arange(5) * 1000, row)
    with torch.no_grad(), drawing(draws):
        expected = made(inputs).numpy()
    feed = dict(zip(export.INPUT_NAMES, (inputs, sigma, draws.seed, draws.vote, row), strict=True))
    near = 1e-3 * float(np.abs(expected).max())
    (found,) = session(file, kernel=True).run(None, {name: tensor.numpy() for name, tensor in feed.items()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=near)
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    stock = session(file, kernel=False)
    last = {name: tensor.numpy() if name == "input" else tensor[-1:].numpy() for name, tensor in feed.items()}
    np.testing.assert_allclose(stock.run(None, last)[0], expected[-1:], rtol=1e-3, atol=near)
