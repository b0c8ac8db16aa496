"""The short way to an endpoint and the framework's own."""

import json
import math
from typing import Any

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.rest import health
from noisevote.service.rest.shortcuts import Shortcuts
from noisevote.service.rest.v1 import front as v1
from noisevote.service.rest.v2 import front as v2
from noisevote.service.rest.v2.parse import HEADER_LENGTH
from noisevote.service.settings import Settings
from tests.support.graphs import SHAPE
from tests.support.serving import OPEN, serve

PREDICT = "/v1/models/tiny/predict"
BODY: dict[str, Any] = {"inputs": [[[[0.5] * SHAPE[2]] * SHAPE[1]]], "sigma": 0.5, "votes": 3, "seed": 1}
JSON = {"content-type": "application/json"}
INFER = "/v2/models/tiny/infer"
TENSOR = {"name": "input", "shape": [1, *SHAPE], "datatype": "FP32", "data": [0.5] * math.prod(SHAPE)}
TENSORS: dict[str, Any] = {"inputs": [TENSOR], "parameters": {"sigma": 0.5, "votes": 3, "seed": 1}}
OWN = {"x-request-id", "content-length"}  # the times in an answer have more digits or fewer

REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "answered": ("POST", PREDICT, {"json": BODY}),
    "of a version": ("POST", "/v1/models/tiny/versions/1/predict", {"json": BODY}),
    "label": ("POST", PREDICT, {"json": BODY | {"return": "label"}}),
    "unknown model": ("POST", "/v1/models/other/predict", {"json": BODY}),
    "unknown version": ("POST", "/v1/models/tiny/versions/2/predict", {"json": BODY}),
    "percent-encoded": ("POST", "/v1/models/t%69ny/predict", {"json": BODY}),
    "slash in a name": ("POST", "/v1/models/a%2Fb/predict", {"json": BODY}),
    "no JSON": ("POST", PREDICT, {"content": b"no", "headers": JSON}),
    "no content type": ("POST", PREDICT, {"content": b"{}"}),
    "key in the query": ("POST", f"{PREDICT}?votes=3", {"json": BODY}),
    "wrong value": ("POST", PREDICT, {"json": BODY | {"votes": 0}}),
    "slash too many": ("POST", f"{PREDICT}/", {"json": BODY}),
    "other method": ("GET", PREDICT, {}),
    "head": ("HEAD", PREDICT, {}),
    "options": ("OPTIONS", PREDICT, {}),
    "other path": ("POST", f"{PREDICT}s", {"json": BODY}),
    "tensors": ("POST", INFER, {"json": TENSORS}),
    "tensors without a content type": ("POST", INFER, {"content": json.dumps(TENSORS).encode()}),
    "tensors to a version": ("POST", "/v2/models/tiny/versions/1/infer", {"json": TENSORS}),
    "tensors to an unknown model": ("POST", "/v2/models/other/infer", {"json": TENSORS}),
    "tensors to an unknown version": ("POST", "/v2/models/tiny/versions/2/infer", {"json": TENSORS}),
    "no tensors": ("POST", INFER, {"content": b"no", "headers": JSON}),
    "wrong length of a header": ("POST", INFER, {"json": TENSORS, "headers": {HEADER_LENGTH: "x"}}),
    "wrong parameter": ("POST", INFER, {"json": TENSORS | {"parameters": {"votes": 0}}}),
    "other method for tensors": ("GET", INFER, {}),
    "alive": ("GET", "/healthz", {}),
    "ready": ("GET", "/readyz", {}),
    "head of alive": ("HEAD", "/healthz", {}),
    "other method for alive": ("POST", "/healthz", {}),
    "live for tensors": ("GET", "/v2/health/live", {}),
    "ready for tensors": ("GET", "/v2/health/ready", {}),
    "slash too many for tensors": ("POST", f"{INFER}/", {"json": TENSORS}),
}


async def answers(client: httpx.AsyncClient) -> dict[str, tuple[Any, ...]]:
    """Status, headers and content of every answer, without what is of this one alone."""
    found = {}
    for name, (method, path, sent) in REQUESTS.items():
        answer = await client.request(method, path, **sent)
        content = answer.json() if answer.content else None
        if content is not None:
            content.pop("timing_ms", None)
        found[name] = answer.status_code, {k: v for k, v in answer.headers.items() if k not in OWN}, content
    return found


async def test_the_short_way_answers_as_the_long_one(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last header, whatever is asked."""
    async with serve(store) as client:
        short = await answers(client)
    for front in (v1, v2, health):
        monkeypatch.setattr(front, "FREQUENT", ())
    async with serve(store) as client:
        long = await answers(client)
    assert short == long
    assert {status for status, *_ in short.values()} >= {200, 204, 307, 400, 404, 405, 415, 422}


def test_frequent_routes_are_found_by_the_framework_too(store: ModelStore) -> None:
    """Each is in the API's description, and none of them is another's."""
    app = create_app(Settings(model_store=store.root), access=OPEN)
    paths = app.openapi()["paths"]
    assert all(route.path in paths for route in (*v1.FREQUENT, *v2.FREQUENT))
    shortcuts = Shortcuts(app, (*v1.FREQUENT, *v2.FREQUENT))
    scope = {"type": "http", "method": "POST", "root_path": ""}
    ways = {"/v1/models/a/versions/2/predict": "predict_version", "/v2/models/a/versions/2/infer": "infer_version"}
    for path, name in ways.items():
        found = shortcuts._found(scope | {"path": path})
        assert found is not None
        assert (found[0].name, found[1]) == (name, {"name": "a", "version": "2"})
