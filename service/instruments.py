"""Counters and histograms that one event loop writes: the exposition is prometheus_client's, the counting is plain.

That library's own may be written by any thread, and take locks and checks for it: for a request of one vote, which
writes to eight of them, a twentieth of all its time.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

Child = TypeVar("Child", "Count", "Observations")


class Count:
    """How often something happened."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Count it once more, or so often."""
        self.value += amount


class Observations:
    """How many values fell between bounds, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)  # the last: beyond all bounds
        self.sum = 0.0
        self._bounds = bounds

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class _Family(Collector, Generic[Child]):
    """Children by the values of their labels."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def remove(self, *labels: str) -> None:
        """Show a child no more; one that is not there is no error."""
        self._children.pop(labels, None)

    def _shown(self) -> list[tuple[tuple[str, ...], Child]]:
        """All children at this moment: whoever asks is on another thread."""
        return list(self._children.items())


class Counter(_Family[Count]):
    """A counter by labels."""

    def labels(self, *labels: str) -> Count:
        """The child of these labels."""
        return self._children.setdefault(labels, Count())

    def describe(self) -> Iterator[Metric]:
        """The family without samples."""
        yield CounterMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """The family with all children."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, child in self._shown():
            family.add_metric(labels, child.value)
        yield family


class Histogram(_Family[Observations]):
    """A histogram by labels; `buckets` are its bounds, in rising order."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._bounds: Final = buckets
        self._names: Final = [*map(repr, map(float, buckets)), "+Inf"]
        super().__init__(name, text, labels, registry)

    def labels(self, *labels: str) -> Observations:
        """The child of these labels."""
        return self._children.setdefault(labels, Observations(self._bounds))

    def describe(self) -> Iterator[Metric]:
        """The family without samples."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """The family with all children."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, child in self._shown():
            family.add_metric(labels, list(zip(self._names, accumulate(child.counts), strict=True)), child.sum)
        yield family
