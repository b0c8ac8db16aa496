"""The data sets of a card's work, read once for all processes."""

import numpy as np

from noisevote.evaluation.examples import Examples
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataError, DataSource
from noisevote.training.data.registry import load

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def loaded(names: set[str], *, synthetic: bool) -> dict[str, DataSet]:
    """The data sets by name; one that cannot be read is left out, so that the others' runs go on without it.

    Args:
        names: which.
        synthetic: random images of their shapes, to try things without the data.
    """
    if synthetic:
        return {name: _random(name) for name in sorted(names)}
    found = {}
    for name in sorted(names):
        try:
            found[name] = load(name, DataSource.from_environment())
        except DataError as error:
            print(error, flush=True)
    return found


def _random(name: str) -> DataSet:
    generator = np.random.default_rng(0)

    def examples(count: int) -> Examples:
        inputs = generator.integers(0, 256, (count, *SHAPES[name]), np.uint8)
        return Examples(inputs, generator.integers(0, 10, count, np.uint8))

    return DataSet(name, examples(12_000), examples(1000), tuple("0123456789"), {"synthetic": "none"})
