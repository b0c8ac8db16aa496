"""Traces of requests, as OpenTelemetry has them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from noisevote.model_store.store import ModelStore
from noisevote.service import telemetry
from noisevote.service.app import create_app
from noisevote.service.settings import Settings, SettingsError
from tests.support import smoothed
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import OPEN, serve
from tests.support.smoothed import publish_smoothed

PATH = "/v1/models/tiny/predict"
BODY = {"inputs": np.zeros((2, *SHAPE)).tolist(), "votes": 30, "sigma": 1}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What would be sent."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(telemetry, "BatchSpanProcessor", lambda _: SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "OTLPSpanExporter", lambda: None)
    yield exporter
    exporter.clear()


def of_name(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The finished spans of that name."""
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_a_request_is_a_span_with_queue_batches_and_decision_in_it(
    store: ModelStore, spans: InMemorySpanExporter
) -> None:
    """All in the trace of the client; rows of the batches add up to its votes, and times lie inside one another."""
    async with serve(store, FakeEngine(CLASSES), traces=True, batch_rows=16) as client:
        header = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert (await client.post(PATH, json=BODY, headers=header)).is_success
        assert (await client.get("/healthz")).is_success
    (server,) = [span for span in spans.get_finished_spans() if span.kind.name == "SERVER"]
    assert server.parent is not None
    assert (f"{server.context.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    assert server.attributes is not None
    assert server.attributes["noisevote.model"] == "tiny"
    (queue,), (decide,), batches = of_name(spans, "queue"), of_name(spans, "decide"), of_name(spans, "batch")
    rows = [int(str((span.attributes or {})["noisevote.rows"])) for span in batches]
    assert sum(rows) == 60
    assert len(batches) >= 60 / 16
    for span in (queue, decide, *batches):
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    assert max(span.end_time or 0 for span in (queue, *batches)) <= (decide.end_time or 0)


async def test_certificates_are_spans_too(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    """Of each input the waiting and the batches of every slice of votes, and finding the certificate."""
    store = ModelStore(tmp_path / "models")
    publish_smoothed(store)
    body = {"inputs": np.zeros((2, *smoothed.SHAPE)).tolist(), "n0": 40, "n": 600}
    async with serve(store, traces=True) as client:
        assert (await client.post("/v1/models/smooth/certify", json=body)).is_success
    (server,) = [span for span in spans.get_finished_spans() if span.kind.name == "SERVER"]
    attributes = dict(server.attributes or {})
    assert attributes["noisevote.rule"] == "certify_fixed"
    assert attributes["noisevote.inputs"] == 2
    cast = [dict(span.attributes or {}) for span in of_name(spans, "batches")]
    parts = [(each["noisevote.first_vote"], each["noisevote.rows"]) for each in cast]
    assert parts == 2 * [(0, 40), (40, 512), (552, 88)]
    assert len(of_name(spans, "queue")) == len(parts)
    decided = of_name(spans, "decide")
    assert [dict(span.attributes or {})["noisevote.votes_used"] for span in decided] == [640, 640]
    for span in (*of_name(spans, "queue"), *of_name(spans, "batches"), *decided):
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id
        assert (span.start_time or 0) <= (span.end_time or 0)
    assert of_name(spans, "batch") == []


async def test_without_the_setting_nothing_is_traced(client: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    """Not even made."""
    assert (await client.post(PATH, json=BODY)).is_success
    assert spans.get_finished_spans() == ()


async def test_traces_without_their_extra_are_refused_by_name(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At start, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "noisevote.service.telemetry")
    with pytest.raises(SettingsError, match=r'traces: package opentelemetry.* pip install "noisevote\[otel\]"'):
        create_app(Settings(model_store=store.root, traces=True), FakeEngine(CLASSES), None, OPEN)
