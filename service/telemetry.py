"""Traces for OpenTelemetry, of the extra `otel`: a span for each request, and in it queue, batches and decision.

Where they are sent is said by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final
from weakref import WeakKeyDictionary

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.scheduling.workers import BatchResult

NAME: Final = "noisevote"
# Asked by machines every few seconds.
UNTRACED: Final = "healthz,readyz,metrics,v2/health"


class OpenTelemetry:
    """`Traces` as spans. `processor` is handed them; default: sent by OTLP in the background."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.version": version("noisevote")} | _name()))
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, version("noisevote"))
        self._epoch = time.time() - time.perf_counter()
        self._requests: WeakKeyDictionary[VoteRequest, Context] = WeakKeyDictionary()

    def trace(self, app: FastAPI) -> None:
        """Make a span of each request to an application, in the trace of its client where it names one."""
        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=self._provider, excluded_urls=UNTRACED, exclude_spans=["receive", "send"]
        )

    def accepted(self, request: VoteRequest, rule: str | None = None) -> None:
        """Note whose span the request's are part of."""
        span = trace.get_current_span()
        if span.is_recording():
            session = request.session
            span.set_attributes({"noisevote.model": session.model, "noisevote.version": session.version})
            span.set_attributes({"noisevote.variant": session.variant, "noisevote.rule": rule or request.rule.name})
            span.set_attributes({"noisevote.inputs": len(request.inputs), "noisevote.votes": request.votes})
            self._requests[request] = get_current()

    def computed(self, result: BatchResult) -> None:
        """A span in each traced request that had rows in the batch."""
        for share in result.batch.shares:
            rows = {"noisevote.rows": len(share.inputs), "noisevote.batch_rows": len(result.batch)}
            self._span(share.request, "batch", result.began, result.began + result.seconds, rows)

    def decided(self, request: VoteRequest, counted: CountedVotes, began: float, ended: float) -> None:
        """Spans of waiting for the first batch, and of deciding after the last."""
        self._waited(request, counted, began)
        self._span(request, "decide", began, ended, {"noisevote.votes_used": int(counted.tally.votes_used.sum())})

    def sliced(self, request: VoteRequest, votes: VoteRequest, counted: CountedVotes, ended: float) -> None:
        """Spans of waiting for their first batch, and of their batches, which are too many for one each."""
        first = self._waited(request, counted, ended)
        cast = {"noisevote.rows": votes.rows, "noisevote.first_vote": votes.first_vote}
        self._span(request, "batches", first, ended, cast)

    def certified(self, request: VoteRequest, votes: int, began: float, ended: float) -> None:
        """A span of finding the certificate."""
        self._span(request, "decide", began, ended, {"noisevote.votes_used": votes})

    def close(self) -> None:
        """Send what is not yet sent."""
        self._provider.shutdown()

    def _waited(self, request: VoteRequest, counted: CountedVotes, ended: float) -> float:
        """A span of waiting for the first of the batches that were over at `ended`; returns when that began."""
        first = ended - counted.compute_s
        self._span(request, "queue", first - counted.queue_s, first, {})
        return first

    def _span(self, request: VoteRequest, name: str, began: float, ended: float, attributes: Mapping[str, int]) -> None:
        context = self._requests.get(request)
        if context is None:
            return
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=self._nanoseconds(began))
        span.end(self._nanoseconds(ended))

    def _nanoseconds(self, seconds: float) -> int:
        return int(1e9 * (self._epoch + seconds))


def _name() -> dict[str, str]:
    """The service's name, unless OpenTelemetry's variables give another."""
    named = Resource.create().attributes.get("service.name")
    return {} if isinstance(named, str) and not named.startswith("unknown_service") else {"service.name": NAME}
