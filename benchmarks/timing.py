"""Times contenders in turns, so that a machine whose speed drifts slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Contender = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of each contender, one entry a round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over the rounds of (seconds of `name`) / (seconds of `base`), round by round."""
        pairs = zip(self.seconds[name], self.seconds[base], strict=True)
        return statistics.median(numerator / denominator for numerator, denominator in pairs)

    def spread(self, name: str) -> tuple[float, float]:
        """Quartiles of one contender's seconds."""
        lower, _, upper = statistics.quantiles(self.seconds[name], n=4)
        return lower, upper


def in_turns(contenders: Mapping[str, Contender], rounds: int, warm_up: int = 2) -> Timings:
    """Run every contender once a round, `rounds` times after `warm_up` uncounted rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return Timings(seconds)
