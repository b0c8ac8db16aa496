"""The whole application, asked as strangers, holders of keys, browsers and proxies ask it."""

import asyncio
import base64
import hashlib
import re
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from noisevote.model_store.manifest import MANIFEST_FILE
from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.rest.access import access_at
from noisevote.service.settings import Settings, SettingsError
from tests.support.engines import FakeEngine, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.keyed import ALICE, BOB, OPS, keyed
from tests.support.serving import serve, serve_to

PREDICT = "/v1/models/tiny/predict"
BODY: dict[str, Any] = {"inputs": [[[[0.515625] * SHAPE[2]] * SHAPE[1]]], "seed": 1}
GET_PATHS = ("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json", "/v1/models", "/v1/models/tiny")
REFUSED = {"401", "403", "429"}


def requests_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Every method and path that the API's description knows."""
    return [
        (method, path.format(name="tiny", version="1"))
        for path, methods in document["paths"].items()
        for method in methods
    ]


async def test_what_names_models_or_computes_needs_a_key(store: ModelStore, tmp_path: Path) -> None:
    """All that /openapi.json describes but health: 401 with how to send one; a page's files are open."""
    async with keyed(store, tmp_path) as client:
        document = (await client.get("/openapi.json")).json()
        described = requests_of(document)
        assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
        assert len(described) > 8
        for method, path in [*described, ("get", "/v2"), ("post", "/v1/nothing"), ("put", "/v1/models")]:
            answer = await client.request(method, path)
            if path in {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, path
                operation = document["paths"].get(path.replace("tiny", "{name}").replace("/1", "/{version}"), {})
                assert set(operation.get(method, {"responses": REFUSED})["responses"]) >= REFUSED
                error = answer.json()["error"]
                assert isinstance(error, str) if path.startswith("/v2") else error["code"] == "missing_key"
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/docs", "/static-offline-docs/swagger-ui.css"):
            assert (await client.get(path)).status_code == 200
        for headers in (ALICE, BOB):
            assert (await client.post(PREDICT, json=BODY, headers=headers)).status_code == 200
        assert (await client.get("/v1/nothing", headers=ALICE)).status_code == 404
        for headers in (ALICE, OPS):
            assert (await client.get("/metrics", headers=headers)).status_code == 200


async def test_admin_paths_need_an_admin_key_on_loopback_too(store: ModelStore, tmp_path: Path) -> None:
    """403 where none is configured or the key has another scope, 401 without a key; with one, whatever is there."""
    settings = Settings(model_store=store.root)
    async with serve_to(access_at(settings, loopback=True), store, FakeEngine(CLASSES)) as client:
        for path in ("/v1/admin/x", "/v2/repository/index"):
            answer = await client.post(path, headers={"host": "localhost"})
            assert answer.status_code == 403
            assert "no key of scope 'admin'" in str(answer.json()["error"])
    async with keyed(store, tmp_path) as client:
        statuses = [(await client.post("/v1/admin/x", headers=headers)).status_code for headers in ({}, ALICE, OPS)]
        assert statuses == [401, 403, 404]
        assert (await client.post(PREDICT, json=BODY, headers=OPS)).status_code == 403


async def test_an_application_by_itself_lets_nobody_in_without_keys(store: ModelStore) -> None:
    """As under a foreign server: it does not start, unless `insecure` is set."""
    with pytest.raises(SettingsError, match="NOISEVOTE_INSECURE"):
        create_app(Settings(model_store=store.root), FakeEngine())
    async with serve_to(None, store, FakeEngine(CLASSES), insecure=True) as client:
        assert (await client.post(PREDICT, json=BODY)).status_code == 200


async def test_strangers_are_not_told_which_models_there_are(store: ModelStore, tmp_path: Path) -> None:
    """Why a keyed server is not ready is for its log, since reasons name models."""
    (store.root / "tiny/1" / MANIFEST_FILE).write_text("{}")
    async with keyed(store, tmp_path) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "tiny" not in ready.text


async def test_refusals_at_the_door_are_counted_by_code(store: ModelStore, tmp_path: Path) -> None:
    """Those of strangers, of keys and of pages elsewhere; what is answered is not among them."""
    async with keyed(store, tmp_path) as client:
        await client.post(PREDICT, json=BODY)
        await client.post(PREDICT, json=BODY, headers=ALICE | {"origin": "https://elsewhere.example"})
        await client.post(PREDICT, json=BODY, headers=ALICE)
        text = (await client.get("/metrics", headers=ALICE)).text
    assert 'noisevote_refused_total{code="missing_key"} 1.0' in text
    assert 'noisevote_refused_total{code="forbidden"} 1.0' in text
    assert 'noisevote_refused_total{code="connection_limit"} 0.0' in text
    assert text.count("noisevote_refused_total{") == 3


async def test_quotas_hold_for_each_key(store: ModelStore, tmp_path: Path) -> None:
    """429 with Retry-After naming key and quota, before anything is queued; another key is not concerned."""
    engine = FakeEngine(CLASSES)
    quotas = {"queued_votes": 30, "priority": 2, "requests_per_minute": 6}
    async with keyed(store, tmp_path, engine, quotas, threads=1) as client:
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PREDICT, json=BODY | {"votes": 20}, headers=ALICE))
        await until(lambda: bool(engine.batches))
        second = await client.post(PREDICT, json=BODY | {"votes": 20}, headers=ALICE)
        other = asyncio.create_task(client.post(PREDICT, json=BODY | {"votes": 20}, headers=BOB))
        await until(lambda: len(engine.batches) > 0)
        engine.may_run.set()
        assert (await first).status_code == (await other).status_code == 200
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert second.json()["error"]["code"] == "quota_exceeded"
        assert "key 'alice': queued_votes: 20 wait" in second.json()["error"]["message"]
        urgent = await client.post(PREDICT, json=BODY | {"priority": 3}, headers=ALICE)
        assert (urgent.status_code, urgent.json()["error"]["code"]) == (403, "forbidden")
        for _ in range(3):
            await client.get("/v1/models", headers=ALICE)
        late = await client.get("/v1/models", headers=ALICE)
        assert late.status_code == 429
        assert "requests_per_minute" in late.json()["error"]["message"]
        assert (await client.get("/healthz", headers=ALICE)).status_code == 200
        assert (await client.get("/v1/models", headers=BOB)).status_code == 200


async def test_head_is_get_without_its_body(client: httpx.AsyncClient) -> None:
    """On every path that has GET: status and length alike, as monitors ask; elsewhere 405."""
    for path in GET_PATHS:
        head, get = await client.head(path), await client.get(path)
        assert head.status_code == get.status_code < 400
        assert head.content == b""
        if path != "/metrics":
            assert head.headers.get("content-length") == get.headers.get("content-length")
    assert (await client.head(PREDICT)).status_code == 405


async def test_options_says_what_a_path_has(store: ModelStore, tmp_path: Path) -> None:
    """Without a key; 404 where there is nothing; a wrong method is told the same with its 405."""
    async with keyed(store, tmp_path) as client:
        pages = ("/v1/models", "/docs", "/static-offline-docs/swagger-ui.css", "/playground/app.js")
        for path, allowed in ((PREDICT, "POST, OPTIONS"), *((page, "GET, HEAD, OPTIONS") for page in pages)):
            answer = await client.options(path)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["allow"] == allowed
        for path, method, allowed in (
            (PREDICT, "HEAD", "POST, OPTIONS"),
            (PREDICT, "PATCH", "POST, OPTIONS"),
            ("/v1/models", "BREW", "GET, HEAD, OPTIONS"),
            ("/v1/models", "POST", "GET, HEAD, OPTIONS"),
        ):
            answer = await client.request(method, path, headers=ALICE)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert (await client.options("/nothing")).status_code == 404


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}


async def test_pages_of_others_are_refused_and_allowed_ones_may_ask(store: ModelStore) -> None:
    """Off by default; `allowed_origins` answers preflights, and its pages can read refusals too."""
    foreign = {"origin": "https://lab.example", "sec-fetch-site": "cross-site"}
    async with serve(store, FakeEngine(CLASSES)) as client:
        for answer in (
            await client.post(PREDICT, json=BODY, headers=foreign),
            await client.options(PREDICT, headers=foreign | PREFLIGHT),
            await client.get("/v1/models", headers={"sec-fetch-site": "cross-site"}),
        ):
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "forbidden"
            assert "access-control-allow-origin" not in answer.headers
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert (await client.get("/docs", headers=link)).status_code == 200
        own = {"origin": "http://tiny", "sec-fetch-site": "same-origin"}
        assert (await client.post(PREDICT, json=BODY, headers=own)).status_code == 200


async def test_an_allowed_page_can_read_answers_and_refusals(store: ModelStore, tmp_path: Path) -> None:
    """Preflight without a key, then 401 and 200, each readable for that origin alone."""
    page = {"origin": "https://lab.example", "sec-fetch-site": "cross-site"}
    async with keyed(store, tmp_path, allowed_origins="https://lab.example") as client:
        preflight = await client.options(PREDICT, headers=page | PREFLIGHT)
        refused = await client.post(PREDICT, json=BODY, headers=page)
        answered = await client.post(PREDICT, json=BODY, headers=page | ALICE)
        other = await client.post(PREDICT, json=BODY, headers=ALICE | {"origin": "https://evil.example"})
    assert [each.status_code for each in (preflight, refused, answered, other)] == [200, 401, 200, 403]
    for each in (preflight, refused, answered):
        assert each.headers["access-control-allow-origin"] == "https://lab.example"
        assert "access-control-allow-credentials" not in each.headers
    assert "access-control-allow-origin" not in other.headers


async def test_every_answer_carries_security_headers_and_a_name(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its status; the client's own request id and trace come back, what cannot be one does not."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with keyed(store, tmp_path) as client:
        monkeypatch.setattr("noisevote.service.prediction.handle.prepare", lambda *_, **__: 1 / 0)
        answers = [
            await client.get("/healthz"),
            await client.get("/v1/models"),
            await client.get("/v1/none", headers=ALICE),
            await client.post(PREDICT, json=BODY, headers=ALICE),
            await client.get("/", headers={"x-request-id": "a b", "traceparent": trace.upper()}),
            await client.get("/docs", headers={"x-request-id": "a" * 129, "traceparent": f"{trace}x"}),
            await client.get("/docs", headers={"x-request-id": "a\tb"}),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 404, 500, 200, 200, 200]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "traceparent" not in answer.headers
        names = [answer.headers["x-request-id"] for answer in answers]
        assert len(set(names)) == len(names)
        assert all(len(name) < 30 for name in names)
        own = await client.get("/healthz", headers={"x-request-id": "job-7/a", "traceparent": trace})
        assert (own.headers["x-request-id"], own.headers["traceparent"]) == ("job-7/a", trace)


async def test_the_documentation_runs_its_own_scripts_alone(client: httpx.AsyncClient) -> None:
    """Its policy names the hash of the script in it, allows no other inline, and no other host."""
    page = await client.get("/docs")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "SwaggerUIBundle" in script
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text).replace("</", "")


@pytest.mark.parametrize("root_path", ["", "/noisevote"])
@pytest.mark.parametrize("stripped", [True, False])
async def test_behind_a_prefix_nothing_leads_past_the_proxy(store: ModelStore, root_path: str, stripped: bool) -> None:
    """Whether the proxy takes the prefix away or not: what pages ask for and redirects are relative to the prefix."""
    if not stripped and not root_path:
        return
    outside = "https://lab.example/noisevote"
    inside = "" if stripped else root_path
    async with serve(store, FakeEngine(CLASSES), root_path=root_path) as client:
        headers = {"host": "internal:8000"}
        # A proxy may send no Host, and a client one that is none.
        for path, host in product(("/v1/models/", "/v1/models/tiny/"), ("internal:8000", "", "[", "no:port")):
            answer = await client.get(f"{inside}{path}", headers={"host": host})
            assert answer.status_code == 307
            target = httpx.URL(f"{outside}{path}").join(answer.headers["location"])
            assert str(target) == f"{outside}{path.rstrip('/')}", answer.headers["location"]
        index = await client.get(f"{inside}/", headers=headers)
        assert 'src="playground/app.js"' in index.text
        assert (await client.get(f"{inside}/playground/app.js", headers=headers)).status_code == 200
        page = (await client.get(f"{inside}/docs", headers=headers)).text
        assert "url: 'openapi.json'" in page.replace('"', "'")
        described = (await client.get(f"{inside}/openapi.json", headers=headers)).json()
        assert described.get("servers", []) == ([{"url": root_path}] if root_path else [])
        assert (await client.post(f"{inside}{PREDICT}", json=BODY, headers=headers)).status_code == 200


async def test_a_prefix_hides_no_admin_path(store: ModelStore, tmp_path: Path) -> None:
    """Neither our own nor one that a foreign server has set: the table sees what routes see."""
    async with keyed(store, tmp_path, root_path="/x") as client:
        for path in ("/v1/admin/y", "/x/v1/admin/y"):
            assert (await client.get(path, headers=ALICE)).status_code == 403
        assert (await client.get("/x/healthz")).status_code == 200
