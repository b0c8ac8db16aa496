"""Square attack (Andriushchenko et al. 2020, algorithms 1 and 2): no gradients, only answers.

Each query moves a random square of the image to the ball's surface, and is kept where the margin fell.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FIRST_SHARE: Final = 0.8  # of the image that the first squares cover; the authors' p for MNIST
# Share of 10,000 queries after which the squares' area halves; other budgets are scaled to it, as in their code.
HALVED_AT: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
BUDGET: Final = 10_000

Images = NDArray[np.float32]
Margins = Callable[[Images], NDArray[np.float64]]  # how surely the right class leads; below 0: it does not


@dataclass(frozen=True)
class Tried:
    """How far an attack has come: the images after so many queries about each, and the margins that they had then."""

    query: int
    images: Images
    margins: NDArray[np.float64]


def square(
    margins: Margins, images: Images, eps: float, queries: int, generator: np.random.Generator,
    begun: Tried | None = None,
) -> Iterator[Tried]:  # fmt: skip
    """The images after each query about each of them.

    Every image is asked about in every query, so that answers under noise are never better known than one query tells.

    Args:
        margins: asks about images [n, channels, height, width].
        images: float32 in [0, 1].
        eps: radius of the maximum-norm ball.
        queries: about each image.
        generator: draws squares and signs.
        begun: what to go on from, if not from the images; with the generator as it was then, the same follows.
    """
    low, high = np.clip(images - eps, 0, 1), np.clip(images + eps, 0, 1)
    if begun is None:
        stripes = generator.choice(np.array([-eps, eps], np.float32), (*images.shape[:2], 1, images.shape[3]))
        first = np.clip(images + stripes, low, high).astype(np.float32)
        begun = Tried(1, first, margins(first))
        yield begun
    best, least = begun.images, begun.margins
    for query in range(begun.query + 1, queries + 1):
        moved = _moved(best, eps, side(images.shape[2:], query, queries), generator)
        tried = np.clip(moved, low, high).astype(np.float32)
        found = margins(tried)
        better = found < least
        best = np.where(better[:, None, None, None], tried, best)
        least = np.where(better, found, least)
        yield Tried(query, best, least)


def side(shape: tuple[int, ...], query: int, queries: int) -> int:
    """Side of the squares at a query, in pixels."""
    scaled = query * BUDGET / queries
    share = FIRST_SHARE / 2 ** sum(scaled > at for at in HALVED_AT)
    whole: int = round(float(share * shape[0] * shape[1]) ** 0.5)
    return max(1, min(whole, *shape))


def _moved(images: Images, eps: float, width: int, generator: np.random.Generator) -> Images:
    moved = images.copy()
    height, across = images.shape[2:]
    for image in moved:
        top, left = generator.integers(0, height - width + 1), generator.integers(0, across - width + 1)
        signs = generator.choice(np.array([-1, 1], np.float32), (len(image), 1, 1))
        image[:, top : top + width, left : left + width] += 2 * eps * signs
    return moved
