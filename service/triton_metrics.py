"""The metrics under the names that Triton's have, for dashboards that were made for it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Totals = dict[tuple[str, str], float]
LABELS: Final = ("model", "version")
MICROSECONDS: Final = 1e6
# Theirs: ours, what it counts, and by how much it is multiplied.
COUNTERS: Final = {
    "nv_inference_count": ("noisevote_predictions_total", "Inputs answered.", 1.0),
    "nv_inference_exec_count": ("noisevote_batch_duration_seconds_count", "Batches run.", 1.0),
    "nv_inference_request_duration_us": (
        "noisevote_request_duration_seconds_sum", "Microseconds of answered requests.", MICROSECONDS,
    ),
    "nv_inference_queue_duration_us": (
        "noisevote_queue_duration_seconds_sum", "Microseconds that they waited for their first batch.", MICROSECONDS,
    ),
    "nv_inference_compute_infer_duration_us": (
        "noisevote_batch_duration_seconds_sum", "Microseconds of batches.", MICROSECONDS,
    ),
}  # fmt: skip
REQUESTS: Final = "noisevote_requests_total"
ROWS_WAITING: Final = "noisevote_queue_rows"
OK: Final = "ok"
FAILURES: Final = "nv_inference_request_failure"
# Triton's reasons of failures, by our codes; any other is OTHER.
REASONS: Final = {"queue_full": "REJECTED", "client_left": "CANCELED", "engine_error": "BACKEND"}


class Instruments(Protocol):
    """What can be collected."""

    def collect(self) -> Iterable[Metric]:
        """Families of samples."""


class TritonNames(Collector):
    """Collects instruments of ours under Triton's names, added up over variants."""

    def __init__(self, instruments: Sequence[Instruments]) -> None:
        self._instruments = instruments

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: names are theirs, and clash with none of ours."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Counters since the start, and votes that wait."""
        totals: dict[str, Totals] = defaultdict(lambda: defaultdict(float))
        failures: dict[tuple[str, str, str], float] = defaultdict(float)
        waiting = 0.0
        for sample in (sample for each in self._instruments for family in each.collect() for sample in family.samples):
            of = (sample.labels.get("model", ""), sample.labels.get("version", ""))
            if sample.name == ROWS_WAITING:
                waiting = sample.value
            elif sample.name == REQUESTS and sample.labels["code"] != OK:
                failures[*of, REASONS.get(sample.labels["code"], "OTHER")] += sample.value
            else:
                totals[sample.name][of] += sample.value
        yield _counter("nv_inference_request_success", "Answered requests.", totals[REQUESTS], 1.0)
        yield _failures(failures)
        for name, (ours, text, factor) in COUNTERS.items():
            yield _counter(name, text, totals[ours], factor)
        yield GaugeMetricFamily("nv_inference_pending_request_count", "Votes asked for and not yet counted.", waiting)


def _counter(name: str, text: str, totals: Totals, factor: float) -> Metric:
    """Of no declared type, because the library would end a counter's name in _total, which theirs does not."""
    family = Metric(name, text, "unknown")
    for of, value in totals.items():
        if of[0]:
            family.add_sample(name, dict(zip(LABELS, of, strict=True)), value * factor)
    return family


def _failures(failures: Mapping[tuple[str, str, str], float]) -> Metric:
    family = Metric(FAILURES, "Requests refused or failed.", "unknown")
    for of, value in failures.items():
        if of[0]:
            family.add_sample(FAILURES, dict(zip((*LABELS, "reason"), of, strict=True)), value)
    return family
