import pytest
import torch
from torch import Tensor

from noisevote.training.fit.augment import augment
from noisevote.training.runs.recipe import Recipe

STILL = Recipe(shift_pixels=0, rotate_degrees=0, scale=0)


def dots(rows: int, across: int = 13, down: int = 13) -> Tensor:
    """Images 28×28 of one 2×2 dot whose centre is at (across + 0.5, down + 0.5)."""
    images = torch.zeros(rows, 1, 28, 28)
    images[:, :, down : down + 2, across : across + 2] = 1
    return images


def centres(images: Tensor) -> Tensor:
    """Centre of mass of each image, [n, 2] as (across, down)."""
    place = torch.arange(28.0)
    mass = images.sum(dim=(1, 2, 3))
    across = (images.sum(dim=(1, 2)) * place).sum(dim=1) / mass
    down = (images.sum(dim=(1, 3)) * place).sum(dim=1) / mass
    return torch.stack((across, down), dim=1)


def moved(recipe: Recipe, images: Tensor, seed: int = 0) -> Tensor:
    """The images after `augment` with a generator of that seed."""
    return augment(images, recipe, torch.Generator().manual_seed(seed))


def test_nothing_asked_for_changes_nothing() -> None:
    """With all three bounds at 0 the images come back bit for bit."""
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(moved(STILL, images), images)


def test_shifts_fill_their_bound_and_keep_it() -> None:
    """Ink moves by up to `shift_pixels` pixels in each direction, never farther, and nearly that far in some image."""
    images = dots(500)
    shift = centres(moved(STILL.model_copy(update={"shift_pixels": 2.0}), images)) - centres(images)
    assert float(shift.abs().max()) <= 2.0 + 1e-3
    for axis in range(2):
        assert float(shift[:, axis].max()) > 1.9
        assert float(shift[:, axis].min()) < -1.9


@pytest.mark.parametrize(("field", "value", "farthest"), [("rotate_degrees", 10.0, 1.75), ("scale", 0.1, 1.12)])
def test_rotation_and_scale_keep_their_bound(field: str, value: float, farthest: float) -> None:
    """A dot 10 pixels from the middle moves by at most 10·sin(10°) or 10·(1/0.9 − 1) pixels, and does move."""
    images = dots(300, across=23)
    distance = (centres(moved(STILL.model_copy(update={field: value}), images)) - centres(images)).norm(dim=1)
    assert farthest / 2 < float(distance.max()) <= farthest + 0.05


def test_crops_are_whole_pixels_and_mirrored_at_the_edge() -> None:
    """Each image is a window of the mirrored image, at one of the (2·3 + 1)² whole-pixel places, and all occur."""
    images = torch.rand(2000, 2, 9, 11)
    found = moved(STILL.model_copy(update={"crop_pixels": 3}), images)
    wide = torch.nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
    windows = [wide[:, :, down : down + 9, across : across + 11] for down in range(7) for across in range(7)]
    matches = torch.stack([(found == window).flatten(1).all(dim=1) for window in windows])
    assert bool(matches.any(dim=0).all())
    assert bool(matches.any(dim=1).all())


def test_half_of_the_images_are_mirrored() -> None:
    """Each image comes back as it was or left to right, about as many of each."""
    images = torch.rand(2000, 1, 4, 5)
    found = moved(STILL.model_copy(update={"flip": True}), images)
    same, mirrored = ((found == which).flatten(1).all(dim=1) for which in (images, images.flip(3)))
    assert bool((same ^ mirrored).all())
    assert 900 < int(mirrored.sum()) < 1100


def test_same_generator_state_gives_the_same_images() -> None:
    """The maps come from the generator alone: the same seed repeats them, another does not."""
    images = torch.rand(4, 1, 28, 28)
    recipe = Recipe()
    assert torch.equal(moved(recipe, images, 1), moved(recipe, images, 1))
    assert not torch.equal(moved(recipe, images, 1), moved(recipe, images, 2))


def paths(rows: int) -> Tensor:
    """Straight pen paths of 10 pixels from (9, 14) to (19, 14), float32 [n, 11, 2]."""
    path = torch.stack((torch.arange(9.0, 20.0), torch.full((11,), 14.0)), dim=1)
    return path.expand(rows, -1, -1)


def test_points_are_not_moved_unless_asked() -> None:
    """With all three bounds at 0 points come back bit for bit."""
    assert torch.equal(moved(STILL, paths(5)), paths(5))


def test_points_move_together_and_keep_their_bounds() -> None:
    """A path stays a straight path whose middle moves by at most `shift_pixels`, turned and scaled within bounds."""
    recipe = Recipe(shift_pixels=2.0, rotate_degrees=10.0, scale=0.1)
    found = moved(recipe, paths(500))
    torch.testing.assert_close(found[:, 1:] - found[:, :-1], (found[:, -1:] - found[:, :1]).expand(-1, 10, -1) / 10)
    shift = found[:, 5] - paths(500)[:, 5]
    across, down = (found[:, -1] - found[:, 0]).unbind(1)
    bounds = [(shift[:, 0], 2.0), (shift[:, 1], 2.0), (torch.rad2deg(torch.atan2(down, across)), 10.0)]
    bounds.append((torch.hypot(across, down) / 10 - 1, 0.1))
    for values, bound in bounds:
        assert float(values.abs().max()) <= bound * 1.001
        assert float(values.max()) > 0.95 * bound
        assert float(values.min()) < -0.95 * bound
