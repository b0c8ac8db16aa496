"""Models that come and go in a server that is a process."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.repository import reload_under_load
from noisevote.model_store.store import ModelStore
from tests.support.effort import examples
from tests.support.process import TIMEOUT_S, ended, server, start_line
from tests.support.serving import publish_tiny


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with two models."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    publish_tiny(store, name="other")
    return store


def test_sighup_takes_up_what_is_new(store: ModelStore) -> None:
    """In a server of one of the models, which goes on as if nothing had happened, and still ends cleanly."""
    with server("--port", "0", "--model-store", str(store.root), "--models", "tiny") as process:
        line, address = start_line(process)
        assert "other" not in line
        publish_tiny(store, "2")
        process.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=address, timeout=TIMEOUT_S) as client:
            while client.get("/v1/models/tiny").json()["versions"] != ["1", "2"]:
                assert process.poll() is None
                time.sleep(0.05)
            assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["tiny"]
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
        assert status == 0
        assert "tiny 2" in errors
        assert "Traceback" not in errors


def test_a_model_that_is_not_there_is_named_at_start(store: ModelStore) -> None:
    """Misspelt in the settings, it is no reason to serve without it."""
    with server("--port", "0", "--model-store", str(store.root), "--models", "tiny,othre") as process:
        status, _, errors = ended(process)
    assert status == 1
    assert "models: othre is not in the store, which has other, tiny" in errors


async def test_reloads_under_load_fail_no_request() -> None:
    """Every answer has the histogram of the version that it names; after many, memory is what it was after three."""
    proving = examples(1) > 1
    reloads = 120 if proving else 2  # two versions are served, so that two replace all that was there
    found = await reload_under_load(reloads, rounds=max(1, reloads // 10), warm_s=5 if proving else 0.2)
    assert found["reloads"] == reloads
    assert found["requests"] > 10 * found["clients"]
    assert found["problems"] == []
    assert found["failed"] == 0
    if proving:
        assert found["memory_ratio"] < 1.05
