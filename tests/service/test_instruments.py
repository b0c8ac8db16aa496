"""Our counters and histograms beside the library's own."""

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from noisevote.service.instruments import Counter, Histogram
from noisevote.service.metrics import BATCH_ROWS, BATCH_SECONDS, REQUEST_SECONDS

pytestmark = pytest.mark.slow

LABELS = ("model", "code")
names = st.tuples(st.text(max_size=3), st.text(max_size=3))
bounds = st.sampled_from((BATCH_ROWS, BATCH_SECONDS, REQUEST_SECONDS))


def shown(registry: CollectorRegistry) -> list[bytes]:
    """Everything in both formats."""
    return [choose_encoder(accept)[0](registry) for accept in ("", "application/openmetrics-text; version=1.0.0")]


@given(st.lists(st.tuples(names, st.integers(0, 1000))), st.sets(names))
def test_counters_show_what_those_of_the_library_show(
    counted: list[tuple[tuple[str, str], int]], removed: set[tuple[str, str]]
) -> None:
    """To the last byte, whatever is counted and removed."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = Counter("noisevote_things", "Things.", LABELS, ours)
    other = prometheus_client.Counter("noisevote_things", "Things.", LABELS, registry=theirs)
    for labels, amount in counted:
        counter.labels(*labels).inc(amount)
        other.labels(*labels).inc(amount)
    for labels in removed:
        counter.remove(*labels)
        other.remove(*labels)
    assert shown(ours) == shown(theirs)


@given(bounds, st.lists(st.tuples(names, st.floats(0, 300) | bounds.flatmap(st.sampled_from))))
def test_histograms_show_what_those_of_the_library_show(
    buckets: tuple[float, ...], observed: list[tuple[tuple[str, str], float]]
) -> None:
    """To the last byte, values on the bounds included."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("noisevote_seconds", "Seconds.", LABELS, buckets, ours)
    other = prometheus_client.Histogram("noisevote_seconds", "Seconds.", LABELS, buckets=buckets, registry=theirs)
    for labels, value in observed:
        histogram.labels(*labels).observe(value)
        other.labels(*labels).observe(value)
    assert shown(ours) == shown(theirs)
