"""Diverse inputs (Xie et al. 2019, section 3.2): gradients see the images a little smaller, somewhere in the frame."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

SMALLEST = 0.9  # side of the shrunk image, as a share of the frame; the paper's 299 of 330 pixels


def diverse(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Images [n, channels, height, width], each with this probability shrunk by up to a tenth and moved; black around.

    Differentiable in the images. The draws are made on the CPU wherever the images are.
    """
    rows = len(images)
    drawn = torch.rand(4, rows, generator=generator).to(images.device)
    side = 1 - (1 - SMALLEST) * drawn[0] * (drawn[3] < probability)
    room = 1 / side - 1  # in units of the shrunk image's half side
    across, down = (2 * drawn[1] - 1) * room, (2 * drawn[2] - 1) * room
    zero = torch.zeros_like(side)
    maps = torch.stack((1 / side, zero, across, zero, 1 / side, down), dim=1).reshape(rows, 2, 3)
    return grid_sample(images, affine_grid(maps, list(images.shape), align_corners=False), align_corners=False)
