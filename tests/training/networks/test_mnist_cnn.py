import torch

from noisevote.training.networks.layers import Counts, count
from noisevote.training.networks.registry import build


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
    found = count(build("mnist-cnn", "multiplicative"))
    assert found == expected
    assert found == Counts(870634, 19094528, 75530, 6)
