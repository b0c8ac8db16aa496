import json
import logging
from pathlib import Path
from typing import Any

import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.access_log import JsonFormatter
from tests.support.graphs import SHAPE
from tests.support.keyed import ALICE, OPS, keyed

PREDICT = "/v1/models/tiny/predict"
BODY: dict[str, Any] = {"inputs": [[[[0.515625] * SHAPE[2]] * SHAPE[1]]], "seed": 1}


async def test_a_line_tells_of_a_request_and_never_of_its_inputs(
    store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Key, model, votes, status and times, as text and as JSON; no input, no query, no key's secret."""
    with caplog.at_level(logging.INFO, "noisevote.access"):
        async with keyed(store, tmp_path) as client:
            names = ALICE | {"x-request-id": "job-7"}
            await client.post(f"{PREDICT}?token=hidden", json=BODY | {"votes": 3}, headers=names)
            await client.get("/v1/models/a b%0Ac", headers={"x-api-key": "nv_mistyped"})
            await client.get("/healthz")
            await client.get("/metrics", headers=ALICE)
    records = [record for record in caplog.records if record.name == "noisevote.access"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert len(lines) == 2
    first, second = lines
    expected = {"key": "alice", "method": "POST", "path": PREDICT, "status": 200, "votes": 3, "inputs": 1}
    assert first.items() >= (expected | {"model": "tiny/1/mul-0.0", "request_id": "job-7"}).items()
    assert first["ms"] >= first["queue_ms"] >= 0
    assert (second["key"], second["status"], second["path"]) == ("-", 401, "/v1/models/a%20b%0Ac")
    told = caplog.text + json.dumps(lines)
    assert not any(secret in told for secret in ("0.515625", "hidden", "nv_mistyped", "Bearer"))
    assert all(record.getMessage().count("\n") == 0 for record in records)


async def test_what_administrators_do_is_always_logged(
    store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused or not, with the access log off and the log's level at error."""
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    async with keyed(store, tmp_path, access_log="off") as client:
        await client.get("/v1/models", headers=ALICE)
        await client.post("/v1/admin/x", headers=OPS)
        await client.post("/v1/admin/x")
    lines = [
        json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name == "noisevote.access"
    ]
    assert [(line["key"], line["status"]) for line in lines] == [("ops", 404), ("-", 401)]
