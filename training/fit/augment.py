"""Small random changes of a batch of images: affine maps, whole-pixel shifts, mirroring."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from noisevote.training.runs.recipe import Recipe

POINTS_RANK = 3  # [n, points, 2], where images have rank 4


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each image changed by its own random draws; see `mapped`, `cropped` and `flipped`.

    Args:
        images: float32 [n, channels, height, width]; inputs of any shape if the recipe asks for no change.
        recipe: `shift_pixels`, `rotate_degrees`, `scale`, `crop_pixels` and `flip` bound the uniform draws.
        generator: source of the draws, on the CPU wherever the images are, so that they do not depend on the device.
    """
    if images.dim() == POINTS_RANK:
        return mapped_points(images, recipe, generator)
    if not recipe.shift_pixels == recipe.rotate_degrees == recipe.scale == 0:
        images = mapped(images, recipe, generator)
    if recipe.crop_pixels > 0:
        images = cropped(images, recipe.crop_pixels, generator)
    if recipe.flip:
        images = flipped(images, generator)
    return images


def mapped(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each image moved by its own random affine map, bilinear, zeros outside."""
    rows, _, height, width = images.shape
    drawn = torch.rand(4, rows, generator=generator) * 2 - 1  # [map parameters, rows] in [-1, 1]
    draws = drawn.to(images.device, non_blocking=True)
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
    drawn = torch.rand(4, len(points), 1, generator=generator) * 2 - 1  # [map parameters, n, 1] in [-1, 1]
    draws = drawn.to(points.device, non_blocking=True)
    angle = draws[0] * math.radians(recipe.rotate_degrees)
    size = 1 + draws[1] * recipe.scale
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    middle = (points.amin(dim=1, keepdim=True) + points.amax(dim=1, keepdim=True)) / 2
    x, y = (points - middle).unbind(dim=2)
    turned = torch.stack((cos * x - sin * y, sin * x + cos * y), dim=2)
    return turned + middle + draws[2:].permute(1, 2, 0) * recipe.shift_pixels


def cropped(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `pixels` whole pixels in each direction, mirrored at its edges."""
    rows, _, height, width = images.shape
    device = images.device
    start = torch.randint(2 * pixels + 1, (2, rows, 1), generator=generator).to(device, non_blocking=True)
    down = (start[0] + torch.arange(height, device=device)).reshape(rows, 1, height, 1)
    across = (start[1] + torch.arange(width, device=device)).reshape(rows, 1, 1, width)
    wide = pad(images, (pixels, pixels, pixels, pixels), mode="reflect").movedim(1, -1)  # channels last
    image = torch.arange(rows, device=device).reshape(rows, 1, 1, 1)
    return wide[image, down, across].squeeze(1).movedim(-1, 1)


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device, non_blocking=True)
    return torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)
