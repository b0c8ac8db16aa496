"""When requests of an open loop are due."""

from collections.abc import Iterator
from random import Random
from typing import Final

SEED: Final = 1  # the same times in every run


def poisson(rate: float, seconds: float, random: Random) -> Iterator[float]:
    """Rising times from 0 to `seconds` at which requests of independent users come, `rate` a second on average.

    They are drawn without a look at the clock: what the server does moves none of them.
    """
    due = random.expovariate(rate)
    while due < seconds:
        yield due
        due += random.expovariate(rate)
