"""What `/metrics` tells of each key."""

from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from tests.service.test_metrics import BODY, PATH
from tests.support import smoothed
from tests.support.engines import FakeEngine
from tests.support.keyed import ALICE, BOB, keyed
from tests.support.scraping import Scrape

ASKED = {**BODY, "variant": "auto", "votes": 30}


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it happens within one minute, however slow the machine is: quotas read `time.time`."""
    monkeypatch.setattr("time.time", lambda: 1_000_000 * 60.0)


async def shown(client: httpx.AsyncClient) -> Scrape:
    """What `/metrics` says to the holder of a key."""
    return Scrape((await client.get("/metrics", headers=BOB)).text)


async def test_requests_and_votes_are_counted_by_key(store: ModelStore, tmp_path: Path) -> None:
    """By what became of them; what names no key that is known is nobody's."""
    async with keyed(store, tmp_path) as client:
        assert (await client.post(PATH, json=ASKED, headers=ALICE)).status_code == 200
        assert (await client.post(PATH, json=ASKED | {"votes": 0}, headers=ALICE)).status_code == 422
        assert (await client.post(PATH, json=ASKED, headers=BOB)).status_code == 200
        assert (await client.post(PATH, json=ASKED | {"votes": 5}, headers=BOB)).status_code == 200
        assert (await client.post(PATH, json=ASKED, headers={"x-api-key": "mallory"})).status_code == 401
        found = await shown(client)
    counted = {(each.labels["key"], each.labels["code"]): each.value for each in found.of("key_requests_total")}
    assert counted == {("alice", "ok"): 1, ("alice", "invalid_value"): 1, ("bob", "ok"): 2}
    votes = {each.labels["key"]: each.value for each in found.of("key_votes_total")}
    assert votes == {"alice": 60, "bob": 70}


@pytest.mark.usefixtures("one_minute")
async def test_what_a_key_is_refused_is_counted_by_key(store: ModelStore, tmp_path: Path) -> None:
    """By the share of votes, and at the door by that of requests."""
    async with keyed(store, tmp_path, quotas={"votes_per_minute": 100, "requests_per_minute": 2}) as client:
        statuses = [(await client.post(PATH, json=ASKED, headers=ALICE)).status_code for _ in range(4)]
        assert statuses == [200, 429, 429, 429]
        found = await shown(client)
        assert found.sum("key_requests_total", key="alice", code="quota_exceeded") == 3
        assert found.sum("refused_total", code="quota_exceeded") == 2


@pytest.mark.usefixtures("one_minute")
async def test_votes_of_certificates_count_by_key_and_in_its_share(tmp_path: Path) -> None:
    """As those of predictions do."""
    store = ModelStore(tmp_path / "models")
    smoothed.publish_smoothed(store)
    body = {"inputs": [[[[0.5] * 4] * 4]], "n0": 40, "n": 500}
    path = "/v1/models/smooth/certify"
    async with keyed(store, tmp_path, FakeEngine(smoothed.CLASSES), quotas={"votes_per_minute": 1000}) as client:
        assert (await client.post(path, json=body, headers=ALICE)).status_code == 200
        assert (await shown(client)).sum("key_votes_total", key="alice") == 540
        refused = await client.post(path, json=body, headers=ALICE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")


async def test_without_keys_nothing_is_told_by_key(client: httpx.AsyncClient) -> None:
    """There are none."""
    assert (await client.post(PATH, json=ASKED)).status_code == 200
    assert "key_requests_total{" not in (await client.get("/metrics")).text
