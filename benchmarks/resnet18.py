"""ResNet-18 for images of 224 × 224 (He et al. 2015, Table 1), with random weights, which change no time and no memory.

It is the large network here: 11.7 M weights, 1.8 G multiply-accumulates and 2.5 M samples of noise a vote.
"""

from typing import Final

import torch
from torch import Tensor, nn

from noisevote.noise_op.injection import inject_noise
from noisevote.training.publish.export import published_graph

SHAPE: Final = (3, 224, 224)
CLASSES: Final = 1000
# Channels and stride of the four stages, of two blocks each.
STAGES: Final = ((64, 1), (128, 2), (256, 2), (512, 2))


class Block(nn.Module):
    """Two convolutions of 3 × 3 with their norms, beside a shortcut, which is one of 1 × 1 where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, 3, stride)
        self.second = _convolution(channels, channels, 3, 1)
        same = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same else _convolution(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] to [N, channels, H / stride, W / stride]."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def resnet18() -> nn.Sequential:
    """[N, 3, 224, 224] to logits [N, 1000], in evaluation mode."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels_in = 64
    for channels, stride in STAGES:
        layers += [Block(channels_in, channels, stride), Block(channels, channels, 1)]
        channels_in = channels
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels_in, CLASSES)]
    return nn.Sequential(*layers, *head).eval()


def published_file() -> bytes:
    """The network with a site after each of its 21 products, in the published form."""
    noisy = inject_noise(resnet18(), "multiplicative", 0.0, example=torch.rand(2, *SHAPE))
    return bytes(published_graph(noisy.published(), SHAPE, {"network": "resnet18"}).SerializeToString())


def _convolution(channels_in: int, channels: int, size: int, stride: int) -> nn.Sequential:
    product = nn.Conv2d(channels_in, channels, size, stride, size // 2, bias=False)
    return nn.Sequential(product, nn.BatchNorm2d(channels))
