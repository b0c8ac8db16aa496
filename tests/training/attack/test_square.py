import itertools

import numpy as np

from noisevote.training.attack.square import Images, side, square

SHAPE = (28, 28)


def test_square_attack_stays_in_ball_and_range_and_never_gets_worse() -> None:
    """What is asked about is within eps and [0, 1], and without noise the margin of what is kept only falls."""
    generator = np.random.default_rng(0)
    images = generator.random((4, 1, *SHAPE), np.float32).round(1)
    towards = generator.choice([-1.0, 1.0], (1, *SHAPE))

    def margins(asked: Images) -> np.ndarray:
        assert np.abs(asked - images).max() <= 0.2 + 1e-6
        assert asked.min() >= 0
        assert asked.max() <= 1
        return np.asarray(-(asked * towards).sum(axis=(1, 2, 3)))

    kept = [margins(found.images) for found in square(margins, images, 0.2, 200, np.random.default_rng(1))]
    assert len(kept) == 200
    assert all((after <= before).all() for before, after in itertools.pairwise(kept))
    assert (kept[-1] < kept[0] - 5).all()


def test_an_attack_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    """From the images, margins and generator that it had after a query, the same images follow."""
    images = np.random.default_rng(0).random((3, 1, *SHAPE), np.float32)

    def margins(asked: Images) -> np.ndarray:
        return np.asarray(asked.sum(axis=(1, 2, 3)).astype(np.float64))

    *_, whole = square(margins, images, 0.3, 40, np.random.default_rng(1))
    stopped = np.random.default_rng(1)
    *_, half = itertools.islice(square(margins, images, 0.3, 40, stopped), 17)
    *_, rest = square(margins, images, 0.3, 40, stopped, half)
    assert (half.query, rest.query) == (17, 40)
    assert np.array_equal(rest.images, whole.images)
    assert np.array_equal(rest.margins, whole.margins)


def test_squares_shrink_to_a_pixel() -> None:
    """They begin at four fifths of the image's area, and their sides never grow."""
    sides = [side(SHAPE, query, 1000) for query in range(1, 1001)]
    assert sides[0] == round((0.8 * 28 * 28) ** 0.5)
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == 1
