"""What /v2 tells of the server, its models and their statistics, and what an admin may do there."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.open_inference.options import TENSORS
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.keyed import ALICE, OPS, keyed
from tests.support.open_inference import tensor
from tests.support.serving import publish_tiny, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
ONE = tensor("input", "FP32", np.full((1, *SHAPE), 0.5))


async def test_server_and_health(tiny: httpx.AsyncClient) -> None:
    """Names, extensions, and the two words that kserve's client waits for."""
    server = (await tiny.get("/v2")).json()
    assert (server["name"], "binary_tensor_data" in server["extensions"]) == ("noisevote", True)
    assert (await tiny.get("/v2/health/live")).json() == {"live": True}
    assert (await tiny.get("/v2/health/ready")).json() == {"ready": True}
    assert (await tiny.get("/v2/models/tiny/ready")).json() == {"name": "tiny", "ready": True}
    assert (await tiny.get("/v2/models/tiny/versions/1/ready")).status_code == 200
    assert (await tiny.get("/v2/models/tiny/versions/2/ready")).status_code == 404


async def test_an_empty_store_is_not_ready(tmp_path: Path) -> None:
    """503, with the protocol's word and its form of an error; the server is live meanwhile."""
    async with serve(ModelStore(tmp_path)) as client:
        unready = await client.get("/v2/health/ready")
        assert (unready.status_code, unready.json()["ready"], type(unready.json()["error"])) == (503, False, str)
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/models/tiny")).status_code == 503


async def test_metadata_and_configuration_name_the_same_tensors(tiny: httpx.AsyncClient) -> None:
    """Shapes differ by the axis of inputs, which the configuration leaves out; all inputs but one are optional."""
    metadata = (await tiny.get("/v2/models/tiny")).json()
    config = (await tiny.get("/v2/models/tiny/config")).json()
    assert config == (await tiny.get("/v2/models/tiny/versions/1/config")).json()
    assert (metadata["name"], metadata["versions"], config["name"]) == ("tiny", ["1"], "tiny")
    for described, configured in (("inputs", "input"), ("outputs", "output")):
        told = [(each["name"], each["shape"][1:]) for each in metadata[described]]
        assert told == [(each["name"], each["dims"]) for each in config[configured]]
        assert {each["shape"][0] for each in metadata[described]} == {-1}
        kinds = {each["datatype"].replace("BYTES", "STRING") for each in metadata[described]}
        assert kinds == {each["data_type"].removeprefix("TYPE_") for each in config[configured]}
    assert metadata["inputs"][0] == {"name": "input", "datatype": "FP32", "shape": [-1, *SHAPE]}
    assert {each["name"]: each["optional"] for each in config["input"]} == {"input": False} | dict.fromkeys(
        TENSORS, True
    )
    assert next(each for each in metadata["inputs"] if each["name"] == "seed")["datatype"] == "UINT64"
    assert config["max_batch_size"] == 1024


async def test_statistics_add_up(store: ModelStore) -> None:
    """Inputs, requests, batches and the phases of requests are counted per version, whatever protocol asked."""
    publish_tiny(store, "2")
    async with serve(store, FakeEngine(CLASSES)) as client:
        before = (await client.get("/v2/models/stats")).json()["model_stats"]
        assert [(each["name"], each["version"], each["last_inference"]) for each in before] == [
            ("tiny", "1", 0), ("tiny", "2", 0)]  # fmt: skip
        several = tensor("input", "FP32", np.full((3, *SHAPE), 0.5))
        sigmas = tensor("sigma", "FP32", [0.1, 0.2, 0.3])
        for _ in range(2):
            answer = await client.post("/v2/models/tiny/infer", json={"inputs": [several, sigmas]})
            assert answer.status_code == 200
        await client.post("/v1/models/tiny/predict", json={"inputs": [np.zeros(SHAPE).tolist()]})
        await client.post("/v2/models/tiny/infer", json={"inputs": [ONE], "parameters": {"variant": "none"}})
        await client.post("/v2/models/none/infer", json={"inputs": [ONE]})
        await client.post("/v2/models/tiny/versions/1/infer", json={"inputs": [ONE]})
        first, second = (await client.get("/v2/models/tiny/stats")).json()["model_stats"]
    assert (first["inference_count"], second["inference_count"]) == (1, 7)
    sums = second["inference_stats"]
    assert [sums[key]["count"] for key in ("success", "fail", "queue", "compute_infer")] == [3, 1, 3, 3]
    parts = sum(sums[key]["ns"] for key in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert parts == pytest.approx(sums["success"]["ns"], rel=1e-3)
    assert sum(each["batch_size"] * each["compute_infer"]["count"] for each in second["batch_stats"]) == 7 * 20
    assert second["execution_count"] == sum(each["compute_infer"]["count"] for each in second["batch_stats"])
    assert second["last_inference"] > 1.6e12


async def test_an_admin_lists_loads_and_unloads(store: ModelStore, tmp_path: Path) -> None:
    """With an admin's key alone; what would upload a model is refused by name. Requests meet what is loaded."""
    paths = ("index", "models/tiny/load", "models/tiny/unload")
    async with keyed(store, tmp_path) as client:

        async def asked(path: str, **content: Any) -> httpx.Response:
            return await client.post(f"/v2/repository/{path}", headers=OPS, **content)

        async def versions(**content: Any) -> dict[str, str]:
            return {each["version"]: each["state"] for each in (await asked("index", json=content)).json()}

        for path in paths:
            assert (await client.post(f"/v2/repository/{path}")).status_code == 401
            assert (await client.post(f"/v2/repository/{path}", headers=ALICE)).status_code == 403
        publish_tiny(store, "2")
        assert await versions() == {"1": "READY", "2": "UNAVAILABLE"}
        assert await versions(ready=True) == {"1": "READY"}
        for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
            refused = await asked("models/tiny/load", json={"parameters": parameters})
            assert (refused.status_code, next(iter(parameters)) in refused.json()["error"]) == (403, True)
        assert await versions(ready=True) == {"1": "READY"}
        loaded = await asked("models/tiny/load")
        assert (loaded.status_code, loaded.content) == (200, b"")
        assert await versions() == {"1": "READY", "2": "READY"}
        answer = await client.post("/v2/models/tiny/infer", json={"inputs": [ONE]}, headers=ALICE)
        assert answer.json()["model_version"] == "2"
        unload = {"parameters": {"unload_dependents": False}}
        assert (await asked("models/tiny/unload", json=unload)).status_code == 200
        assert (await client.post("/v2/models/tiny/infer", json={"inputs": [ONE]}, headers=ALICE)).status_code == 404
        assert await versions(ready=True) == {}
        unknown = await asked("models/none/load")
        assert (unknown.status_code, "none" in unknown.json()["error"]) == (404, True)
