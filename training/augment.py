"""Small random shifts, rotations and changes of size of a batch of images."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from training.recipe import Recipe

POINTS_RANK = 3  # [n, points, 2], where images have rank 4


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each image moved by its own random affine map, bilinear, zeros outside.

    Args:
        images: float32 [n, channels, height, width].
        recipe: `shift_pixels`, `rotate_degrees` and `scale` bound the uniform draws.
        generator: source of the draws.
    """
    if images.dim() == POINTS_RANK:
        return mapped_points(images, recipe, generator)
    if recipe.shift_pixels == recipe.rotate_degrees == recipe.scale == 0:
        return images
    rows, _, height, width = images.shape
    draws = torch.rand(4, rows, generator=generator) * 2 - 1  # [map parameters, rows] in [-1, 1]
    angle = draws[0] * math.radians(recipe.rotate_degrees)
    size = 1 + draws[1] * recipe.scale
    across = draws[2] * recipe.shift_pixels * 2 / width  # affine_grid's image is 2 wide
    down = draws[3] * recipe.shift_pixels * 2 / height
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    maps = torch.stack((cos, -sin, across, sin, cos, down), dim=1).reshape(rows, 2, 3)
    return grid_sample(images, affine_grid(maps, list(images.shape), align_corners=False), align_corners=False)


def mapped_points(points: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each list of pixels [x, y] moved by its own random affine map, turned and scaled about its middle.

    Args:
        points: float32 [n, points, 2].
        recipe: as for `augment`.
        generator: source of the draws.
    """
    draws = torch.rand(4, len(points), 1, generator=generator) * 2 - 1  # [map parameters, n, 1] in [-1, 1]
    angle = draws[0] * math.radians(recipe.rotate_degrees)
    size = 1 + draws[1] * recipe.scale
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    middle = (points.amin(dim=1, keepdim=True) + points.amax(dim=1, keepdim=True)) / 2
    x, y = (points - middle).unbind(dim=2)
    turned = torch.stack((cos * x - sin * y, sin * x + cos * y), dim=2)
    return turned + middle + draws[2:].permute(1, 2, 0) * recipe.shift_pixels
