import pytest
import torch

from noisevote.training.networks.layers import Counts, count
from noisevote.training.networks.registry import build


def expected_counts(depth: int) -> Counts:
    """Worked out layer by layer: side of the image, channels in and out, width of the kernel."""
    growth, per_block = 12, (depth - 4) // 3
    layers, channels = [(32, 3, 16, 3)], 16
    for block, side in enumerate((32, 16, 8)):
        layers += [(side, channels + growth * i, growth, 3) for i in range(per_block)]
        channels += growth * per_block
        if block < 2:
            layers.append((side, channels, channels, 1))
    layers.append((1, channels, 10, 1))
    weights = sum(i * o * k * k for _, i, o, k in layers)
    norms = sum(2 * i for _, i, _, _ in layers[1:])  # each product but the first reads a norm's scale and shift
    return Counts(
        parameters=weights + norms + 10,
        macs=sum(side * side * i * o * k * k for side, i, o, k in layers),
        samples=sum(side * side * o for side, _, o, _ in layers),
        noisy_layers=len(layers),
    )


@pytest.mark.parametrize(("depth", "millions"), [(40, 1.0), (100, 7.0)])
def test_counts_are_those_worked_out_by_hand(depth: int, millions: float) -> None:
    """A noisy layer for each unit of depth, and the paper's parameters: 1.0 and 7.0 million."""
    torch.manual_seed(0)
    counts = count(build(f"cifar10-densenet{depth}", "multiplicative"))
    assert counts == expected_counts(depth)
    assert counts.noisy_layers == depth
    assert round(counts.parameters / 1e6, 1) == millions
