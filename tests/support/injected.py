"""What tests ask of networks of others with noise in them."""

from typing import Any

import torch
from torch import Tensor

from noisevote.noise_op.injection import NoisyModule
from noisevote.noise_op.layer_noise import LayerNoise
from noisevote.noise_op.torch_twin import Draws, drawing

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
SEQUENCES = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(4))


def noisy_layers(noisy: NoisyModule) -> list[LayerNoise]:
    """Its sites, which all bear a name."""
    return [site for site in noisy.sites() if isinstance(site, LayerNoise)]


def names(noisy: NoisyModule) -> list[str]:
    """Of its layers."""
    return [site.name for site in noisy_layers(noisy)]


def noiseless(noisy: NoisyModule, *inputs: Any) -> Any:
    """The answer at sigma 0, in evaluation mode."""
    before, noisy.sigma = noisy.sigma, 0.0
    answer = noisy.eval()(*inputs)
    noisy.sigma = before
    return answer


def assert_rows_are_independent(noisy: NoisyModule, x: Tensor) -> None:
    """Noise asked for one row changes no other row; each row's is that of its own seed and vote."""
    noisy.eval().look(x)
    count = len(x)
    sigma, vote = torch.zeros(count, 2), torch.arange(count)
    sigma[1, 0] = 0.5
    with torch.no_grad():
        with drawing(Draws(torch.zeros(count, 2), vote, vote)):
            silent = noisy(x)
        with drawing(Draws(sigma, vote, vote)):
            one = noisy(x)
        with drawing(Draws(sigma[1:2], vote[1:2], vote[1:2])):
            alone = noisy(x[1:2])
    others = [row for row in range(count) if row != 1]
    torch.testing.assert_close(one[others], silent[others])
    torch.testing.assert_close(one[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one[1], silent[1], rtol=1e-3)
