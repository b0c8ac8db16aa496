"""One request among many: its answer is a function of the request alone."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.scheduling.batch_size import BatchProfile
from tests.support.graphs import SHAPE
from tests.support.once_tried import OnceTriedEngine
from tests.support.serving import serve

pytestmark = pytest.mark.slow

PATH = "/v1/models/tiny/predict"


def different_requests(count: int) -> list[dict[str, Any]]:
    """Requests that differ in everything that a request can differ in."""
    rng = np.random.default_rng(2)
    return [
        {
            "inputs": rng.random((int(rng.integers(1, 4)), *SHAPE)).tolist(),
            "sigma": round(float(rng.uniform(0, 2)), 3),
            "noise": str(rng.choice(["multiplicative", "additive"])),
            "votes": int(rng.integers(1, 60)),
            "reads": int(rng.integers(1, 4)),
            "seed": int(rng.integers(0, 2**63)),
            "variant": str(rng.choice(["auto", "mul-0.0", "mul-0.8"])),
        }
        for _ in range(count)
    ]


REQUESTS = different_requests(64)


def parts(response: httpx.Response) -> dict[str, Any]:
    """The answer without its timing."""
    assert response.status_code == 200, response.text
    answer = dict(response.json())
    del answer["timing_ms"]
    return answer


@pytest.mark.parametrize(
    ("on_kernel", "requests"),
    [
        pytest.param(True, REQUESTS, id="kernel"),
        pytest.param(False, REQUESTS[:24], id="function body"),
        pytest.param(False, REQUESTS, id="function body, all", marks=pytest.mark.prove),  # ten seconds of computing
    ],
)
async def test_an_answer_does_not_depend_on_company_threads_or_batch_size(
    store: ModelStore, on_kernel: bool, requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different requests, each alone and all at once, with 1 to 3 threads and any batch size: bit for bit the same.

    Not only histograms: the mean probabilities too, because they are added up in fixed point.
    """
    monkeypatch.setattr(
        "noisevote.service.models.loading.measure", lambda *arguments: BatchProfile(arguments[3], 0.0, ())
    )  # no own choice
    kernel = load_kernel() if on_kernel else None
    async with serve(store, OnceTriedEngine(kernel), threads=1, batch_rows=8) as client:
        alone = [parts(await client.post(PATH, json=request)) for request in requests]
    for threads, batch_rows in ((1, 1), (1, 64), (2, 3), (2, 8), (3, 1000)):
        async with serve(store, OnceTriedEngine(kernel), threads=threads, batch_rows=batch_rows) as client:
            together = await asyncio.gather(*(client.post(PATH, json=request) for request in requests))
        assert [parts(response) for response in together] == alone


async def test_more_votes_contain_the_fewer(store: ModelStore) -> None:
    """Vote v is the same draw whatever the budget: votes 0 … 9 are among votes 0 … 29."""
    request = REQUESTS[0] | {"sigma": 0.8, "seed": 3, "variant": "mul-0.8"}
    async with serve(store) as client:
        few, many = [
            parts(await client.post(PATH, json=request | {"votes": votes}))["predictions"] for votes in (10, 30)
        ]
    for fewer, more in zip(few, many, strict=True):
        assert (np.array(fewer["histogram"]) <= np.array(more["histogram"])).all()
