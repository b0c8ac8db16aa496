"""What a training step is compared with."""

import torch

from benchmarks.training_step import _eager, _replaced, _silent
from noisevote.training.networks.registry import build


def test_the_network_runs_with_other_noise_and_with_none() -> None:
    """The same network, but for its noise: silent it repeats itself, with torch's draws it does not."""
    network = build("mnist-cnn", "multiplicative").eval()
    images = torch.rand(2, *network.input_shape)
    silent, noisy = (_replaced(network, make) for make in (_silent, _eager))
    assert torch.equal(silent(images), silent(images))
    assert silent(images).shape == noisy(images).shape
    assert not torch.equal(noisy(images), noisy(images))
