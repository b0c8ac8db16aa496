from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.networks.layers import count
from noisevote.training.networks.registry import NETWORKS, build, named
from noisevote.training.networks.smoothed import Smoothed
from noisevote.training.noise.draws import constant_draws
from noisevote.training.publish import export
from noisevote.training.runs.recipe import Recipe
from tests.support.onnx_sessions import session

every_smoothed = pytest.mark.parametrize("name", [n for n, kind in NETWORKS.items() if issubclass(kind, Smoothed)])


@every_smoothed
def test_only_noise_is_gaussian_and_on_the_pixels(name: str, examples: dict[str, Examples]) -> None:
    """There is one site; it takes the images as they are given, and what it adds has mean 0 and deviation sigma."""
    network = build(name, "additive").eval()
    (site,) = [module for module in network.modules() if isinstance(module, GaussianNoise)]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    site.register_forward_hook(lambda _, given, answer: seen.append((given[0], answer)))
    images = torch.from_numpy(examples[named(name).data_set].values(slice(64)))
    with torch.no_grad(), drawing(constant_draws("additive", 0.5, 1, 64, 0)):
        network(images)
    ((given, answer),) = seen
    assert torch.equal(given, images)
    noise = (answer - given).double()
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)


@every_smoothed
def test_file_and_network_answer_alike(name: str, examples: dict[str, Examples], tmp_path: Path) -> None:
    """The exported file fans one image out to its votes and has the network's logits for each."""
    torch.manual_seed(0)
    network = build(name, "additive").eval()
    file = tmp_path / "variant.onnx"
    export.write(export.export(network, Recipe(network=name, noise="additive", sigma_train=0.5)), file)
    images = torch.from_numpy(examples[named(name).data_set].values(slice(2)))
    draws = constant_draws("additive", 0.5, 7, 5, 0)
    row = torch.tensor([0, 1, 1, 0, 0])
    with torch.no_grad(), drawing(Draws(draws.sigma, draws.seed, draws.vote, row)):
        expected = network(images).numpy()
    feed = dict(zip(export.INPUT_NAMES, (images, draws.sigma, draws.seed, draws.vote, row), strict=True))
    (found,) = session(file, kernel=True).run(None, {key: tensor.numpy() for key, tensor in feed.items()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max()))


def test_costs_count_products_without_noise() -> None:
    """LeNet has 2,293,000 multiply-accumulates a vote, and its one site draws once for each pixel."""
    counted = count(build("mnist-smoothed", "additive"))
    assert (counted.macs, counted.samples, counted.noisy_layers) == (2_293_000, 784, 1)
    convolutions = 24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25
    assert counted.macs == convolutions + 800 * 500 + 500 * 10
