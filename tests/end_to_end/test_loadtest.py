"""Load tests of a running server, and what the server itself counted meanwhile."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from noisevote.loadtest.record import read
from noisevote.model_store.store import ModelStore
from tests.support.process import ROOT, clean_environment, server, start_line
from tests.support.serving import publish_tiny

TIMEOUT_S = 120
FEW = ("--votes", "1,7", "--usual-votes", "7", "--concurrency", "1,3", "--sigmas", "0.3", "--seconds", "4")


class Counted:
    """What a server has counted since a moment."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._before = self._samples()

    def __call__(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels."""
        now, before = (
            sum(s.value for s in each if s.name == f"noisevote_{name}_total" and labels.items() <= s.labels.items())
            for each in (self._samples(), self._before)
        )
        return now - before

    def _samples(self) -> list[Sample]:
        families = text_string_to_metric_families(httpx.get(f"{self._address}/metrics").text)
        return [sample for family in families for sample in family.samples]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of `tiny` that accepts at most 50 votes."""
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    publish_tiny(store)
    with server("--port", "0", "--model-store", str(store.root), "--max-votes", "50") as process:
        yield start_line(process)[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A module of this tree as a process."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def counted(address: str) -> Counted:
    """What the server counts during a test."""
    return Counted(address)


def test_a_load_test_counts_what_the_server_counts(address: str, counted: Counted, tmp_path: Path) -> None:
    """Requests, votes asked for, cast and saved agree to one, by rule; record, tables and picture are written."""
    out = tmp_path / "results" / "few"
    done = run("noisevote", "loadtest", "--url", address, "--model", "tiny", *FEW, "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    record = read(out.with_suffix(".json"))
    assert (record.model, record.input, record.overhead) == ("tiny", "random values", None)
    assert {found.phase.part for found in record.measurements} == {
        "warm-up",
        "votes",
        "early stopping",
        "offered rate",
        "concurrency",
        "sigma",
        "mixed votes",
    }
    assert {outcome for found in record.measurements for outcome in found.outcomes} == {"200"}
    assert sum(found.requests for found in record.measurements) == counted("requests")
    for rule in ("fixed", "exact"):
        found = [found for found in record.measurements if found.phase.rule == rule]
        asked, used = (sum(getattr(each, name) for each in found) for name in ("votes_asked", "votes_used"))
        assert asked == counted("votes_asked", rule=rule) > 0
        assert used == counted("votes_cast", rule=rule)
        assert asked - used == counted("votes_saved", rule=rule)
    assert out.with_suffix(".md").read_text().count("\n| ") > len(record.measurements)
    with Image.open(out.with_suffix(".png")) as image:
        assert image.format == "PNG"


def test_a_server_that_refuses_everything_is_not_measured(address: str, tmp_path: Path) -> None:
    """Its answers would be fast, and mean nothing."""
    flags = ("--usual-votes", "51", "--seconds", "2", "--out", str(tmp_path / "none"))
    done = run("noisevote", "loadtest", "--url", address, "--model", "tiny", *flags)
    assert done.returncode == 1
    assert done.stderr.startswith(f"noisevote loadtest: url {address}: no request of the warm-up was answered (422: ")
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("flags", [("--stop", "exact"), ("--rate", "20")], ids=["closed loop", "open loop"])
def test_the_locustfile_runs_by_itself(address: str, counted: Counted, flags: tuple[str, ...]) -> None:
    """With Locust's own command; all requests that Locust counts were answered, and no failure."""
    users = ("--headless", "--users", "2", "--spawn-rate", "2", "--run-time", "3s", "--stop-timeout", "30")
    asked = ("--host", address, "--model", "tiny", "--votes", "3,5", "--json", *flags)
    done = run("locust", "-f", "loadtest/locustfile.py", *users, *asked)
    assert done.returncode == 0, done.stderr
    statistics = {each["name"]: each for each in json.loads(done.stdout)}
    assert statistics.keys() == {"3 votes", "5 votes"}
    assert all(each["num_failures"] == 0 < each["num_requests"] for each in statistics.values())
    answered = counted("requests", code="ok")
    sent = sum(each["num_requests"] for each in statistics.values())
    # Users of an open loop have requests under way when they are stopped.
    assert answered == sent if "--stop" in flags else answered >= sent


def test_the_locustfile_refuses_what_it_cannot_ask(address: str) -> None:
    """Before a user starts, with the key and the value, and a status that is not 0."""
    done = run("locust", "-f", "loadtest/locustfile.py", "--headless", "--host", address, "--votes", "0", "-t", "3s")
    assert done.returncode == 1
    assert "votes: '0': Input should be greater than or equal to 1" in done.stderr
