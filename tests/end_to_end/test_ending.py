"""Clients that leave, and a server that ends, while there is much to do."""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from noisevote.model_store.store import ModelStore
from tests.support.graphs import SHAPE
from tests.support.process import ROOT, TIMEOUT_S, clean_environment, ended, server, start_line
from tests.support.raw_http import GOOD, PATH, answer, connected, error, running
from tests.support.serving import publish_tiny

INPUTS = np.random.default_rng(6).random((2, *SHAPE)).tolist()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny`."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    return store


def body(seed: int, votes: int) -> dict[str, Any]:
    """A request that differs from others by its seed."""
    return {"inputs": INPUTS, "sigma": 0.9, "votes": votes, "seed": seed}


def histograms(answer: dict[str, Any]) -> list[list[int]]:
    """What each input's votes were."""
    return [prediction["histogram"] for prediction in answer["predictions"]]


async def metric(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Sum of a metric's samples with these labels."""
    text = (await client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == f"noisevote_{name}" and labels.items() <= s.labels.items())


async def waiting(client: httpx.AsyncClient, requests: int) -> bool:
    """So many requests are accepted and not yet over."""
    return await metric(client, "queue_requests") == requests


async def not_ready(client: httpx.AsyncClient) -> bool:
    """The server accepts no requests, because it is about to end."""
    answer = await client.get("/readyz")
    return answer.status_code == 503 and "draining" in answer.json()["reason"]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await condition():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.05)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Server-sent events: name and data."""
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


async def stream(client: httpx.AsyncClient, request: dict[str, Any], begun: asyncio.Event) -> dict[str, Any]:
    """The last event of a stream; `begun` is set by its first, when the request is accepted for certain."""
    async with client.stream("POST", f"{PATH}/stream", json=request) as response:
        assert response.status_code == 200
        told = []
        async for event in events(response):
            told.append(event)
            begun.set()
    name, answer = told[-1]
    assert name == "answer", answer
    return answer


async def test_sigterm_under_load_finishes_what_was_accepted_and_refuses_the_rest(store: ModelStore) -> None:
    """Every accepted request gets all its votes, its own; others are told to go elsewhere; the server ends with 0."""
    with server("--port", "0", "--model-store", str(store.root)) as process:
        address = start_line(process)[1]
        async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S) as client:
            short = {seed: histograms((await client.post(PATH, json=body(seed, 300))).json()) for seed in range(6)}
            begun = [asyncio.Event() for _ in short]
            streams = [
                asyncio.create_task(stream(client, body(seed, 10_000), each))
                for seed, each in zip(short, begun, strict=True)
            ]
            await asyncio.gather(*(each.wait() for each in begun))
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: not_ready(client))
            for refused in (
                await client.post(PATH, json=body(9, 10)),
                await client.post(f"{PATH}/stream", json=body(9, 10)),
            ):
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
                assert refused.headers["connection"] == "close"
                assert "retry-after" in refused.headers
            answers = await asyncio.gather(*streams)
        assert await asyncio.to_thread(ended, process) == (0, "", "")
    for seed, found in zip(short, answers, strict=True):
        assert found["seed"] == seed
        assert {(p["votes_used"], p["complete"]) for p in found["predictions"]} == {(10_000, True)}
        parts = np.array(histograms(found)) - np.array(short[seed])  # its first 300 votes are among them
        assert (parts >= 0).all()


async def test_at_the_end_of_the_grace_time_what_is_open_is_answered_as_it_stands(store: ModelStore) -> None:
    """Nobody who was accepted is left without an answer."""
    flags = ("--port", "0", "--model-store", str(store.root), "--grace-seconds", "3", "--threads", "1")
    with server(*flags) as process:
        address = start_line(process)[1]
        async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S) as client:
            begun = asyncio.Event()
            long = body(1, 10_000) | {"inputs": INPUTS * 40}
            streaming = asyncio.create_task(stream(client, long, begun))
            await begun.wait()
            process.send_signal(signal.SIGTERM)
            answer = await streaming
        status, output, errors = await asyncio.to_thread(ended, process)
    assert (status, output) == (0, "")
    assert "draining: 1 requests ended" in errors
    assert {prediction["stopped_by"] for prediction in answer["predictions"]} == {"deadline"}
    assert all(0 < prediction["votes_used"] < 10_000 for prediction in answer["predictions"])


def send_and_vanish(address: str, path: str, request: dict[str, Any]) -> socket.socket:
    """A client in the middle of its request: closing the socket resets the connection, as a killed process would."""
    host, _, port = address.removeprefix("http://").partition(":")
    content = json.dumps(request).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(head.encode() + b"\r\n\r\n" + content)
    return connection


@pytest.mark.parametrize("path", [PATH, f"{PATH}/stream"])
async def test_rows_of_clients_that_are_gone_are_dropped(store: ModelStore, path: str) -> None:
    """Their queue empties long before their votes are cast; a client that stays gets its own votes."""
    with server("--port", "0", "--model-store", str(store.root)) as process:
        address = start_line(process)[1]
        async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S) as client:
            alone = (await client.post(PATH, json=body(3, 2000))).json()
            gone = [send_and_vanish(address, path, body(seed, 10_000) | {"inputs": INPUTS * 8}) for seed in range(5)]
            await eventually(lambda: waiting(client, len(gone)))
            staying = asyncio.create_task(client.post(PATH, json=body(3, 2000)))
            for connection in gone:
                connection.close()
            assert histograms((await staying).json()) == histograms(alone)
            await eventually(lambda: waiting(client, 0))
            assert await metric(client, "queue_rows") == await metric(client, "queue_bytes") == 0
            assert await metric(client, "votes_dropped_total", reason="cancelled") == 5 * 16 * 10_000
            assert await metric(client, "requests_total", code="client_left") == 5
            cast = await metric(client, "batch_rows_sum")
            assert cast < 400_000  # of 800,000
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(ended, process) == (0, "", "")


def test_sigterm_answers_a_stalled_body_at_once_and_ends(store: ModelStore) -> None:
    """503 in JSON, status 0, and nothing in the log."""
    with running(store) as (process, address), connected(address, GOOD[:-1]) as stalled:
        with connected(address, GOOD) as good:
            answer(good, until_closed=False)
        process.send_signal(signal.SIGTERM)
        assert error(stalled) == (503, "draining")
        assert ended(process) == (0, "", "")


async def test_at_the_end_every_input_has_votes(store: ModelStore) -> None:
    """Ten inputs of many votes each, in four requests that ask for all at once: votes so far, not 503."""
    content = {"inputs": [np.full(SHAPE, 0.5).tolist()] * 200, "votes": 10_000 // 4, "sigma": 0.5}
    with running(store, "--grace-seconds", "3", "--threads", "1") as (process, (host, port)):
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=TIMEOUT_S) as client:
            asking = [asyncio.create_task(client.post(PATH, json=content)) for _ in range(2)]
            await asyncio.sleep(1)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*asking)
        assert (await asyncio.to_thread(ended, process))[0] == 0
    for each in answers:
        assert each.status_code == 200, each.text
        used = [prediction["votes_used"] for prediction in each.json()["predictions"]]
        assert min(used) > 0
        assert max(used) <= 2500


LOADS_FOR_EVER = """
import threading
from noisevote.service.models.loading import Loader
def load(*_, **__):
    print("loading", flush=True)
    threading.Event().wait()
Loader.load = load
from noisevote.service.__main__ import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("grace", ["0", "1", "30"])
def test_sigterm_ends_a_server_that_still_loads(store: ModelStore, grace: str, tmp_path: Path) -> None:
    """Within the grace time, whatever a loading thread does."""
    script = tmp_path / "serve.py"
    script.write_text(LOADS_FOR_EVER)
    flags = ["--port", "0", "--model-store", str(store.root), "--grace-seconds", grace]
    with subprocess.Popen(
        [sys.executable, str(script), *flags],
        cwd=ROOT, env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGTERM)
            assert ended(process)[0] == 0
        finally:
            process.kill()
