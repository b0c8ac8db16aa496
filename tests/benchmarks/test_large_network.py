"""ResNet-18 is the published network: its size, its products and its samples."""

import pytest
import torch

from benchmarks.resnet18 import SHAPE, resnet18
from noisevote.noise_op.injection import inject_noise
from noisevote.training.publish.injected import count


def test_it_has_the_published_size() -> None:
    """11,689,512 weights, as torchvision's has."""
    assert sum(weights.numel() for weights in resnet18().parameters()) == 11_689_512


@pytest.mark.prove
def test_a_vote_costs_what_is_said() -> None:
    """1.814 G multiply-accumulates, 21 products, 2.5 M samples."""
    counts = count(inject_noise(resnet18(), "multiplicative", 0.0), SHAPE)
    assert counts.noisy_layers == 21
    assert counts.samples == 2_484_712
    assert counts.macs == 1_814_073_344


def test_it_answers_a_logit_a_class() -> None:
    """Of an image of half the size too, since the mean is taken of whatever is left."""
    with torch.no_grad():
        assert resnet18()(torch.zeros(1, 3, 112, 112)).shape == (1, 1000)
