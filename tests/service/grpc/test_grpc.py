"""The Open Inference Protocol by gRPC: the same answers, limits and keys as by HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.grpc import beside
from noisevote.service.settings import Settings, SettingsError
from tests.support.engines import FakeEngine, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.keyed import keyed
from tests.support.process import free_port
from tests.support.serving import OPEN, serve

grpc = pytest.importorskip("grpc", reason="grpcio, of the extra `grpc`, is not installed")
from noisevote.service.grpc import inference_pb2 as pb  # noqa: E402  # needs protobuf, of the same extra

SERVICE = "/inference.GRPCInferenceService"
INPUTS = np.random.default_rng(4).random((3, *SHAPE), dtype=np.float32)
Call = Callable[..., Any]


@asynccontextmanager
async def called(port: int, metadata: tuple[tuple[str, str], ...] = (), **options: Any) -> AsyncIterator[Call]:
    """Calls by name, with these metadata."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", **options)

    async def call(name: str, request: Any, **more: Any) -> Any:
        answer = getattr(pb, f"{name}Response", pb.ServerLiveResponse)
        method = channel.unary_unary(
            f"{SERVICE}/{name}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return await method(request, metadata=metadata, timeout=30, **more)

    async with channel:
        yield call


def asked(inputs: Any = INPUTS, **parameters: Any) -> Any:
    """A request with these parameters."""
    request = pb.ModelInferRequest(model_name="tiny", id="a")
    for key, value in parameters.items():
        kind = {float: "double_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[key], kind, value)
    request.inputs.add(name="input", datatype="FP32", shape=inputs.shape)
    request.raw_input_contents.append(inputs.tobytes())
    return request


def arrays(response: Any) -> dict[str, Any]:
    """The outputs of an answer by name."""
    kinds = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?"}
    raw = zip(response.outputs, response.raw_output_contents, strict=True)
    return {each.name: np.frombuffer(content, kinds[each.datatype]).reshape(each.shape) for each, content in raw}


async def refused(call: Any) -> tuple[Any, str]:
    """Status and message of a refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())


async def histograms(client: httpx.AsyncClient, inputs: Any, **options: Any) -> list[list[int]]:
    answer = await client.post("/v1/models/tiny/predict", json={"inputs": inputs.tolist(), **options})
    return [each["histogram"] for each in answer.json()["predictions"]]


async def test_the_answer_is_that_of_v1(store: ModelStore) -> None:
    """Options as parameters and as tensors, inputs as bytes and as fields, whole or in part of the outputs."""
    port = free_port()
    async with serve(store, grpc_port=port) as client, called(port) as call:
        told = await histograms(client, INPUTS, sigma=0.5, votes=9, seed=7)
        response = await call("ModelInfer", asked(sigma=0.5, votes=9, seed=7))
        assert arrays(response)["histogram"].tolist() == told
        assert (response.id, response.model_name, response.model_version) == ("a", "tiny", "1")
        assert response.parameters["seed"].int64_param == 7
        switched = asked(sigma=0.5, votes=9, seed=7)
        switched.parameters["triton_enable_empty_final_response"].bool_param = True  # as perf_analyzer sends it
        switched.inputs[0].parameters["binary_data_size"].int64_param = INPUTS.nbytes  # as kserve's client leaves it
        assert arrays(await call("ModelInfer", switched))["histogram"].tolist() == told
        fields = asked(votes=9)
        del fields.raw_input_contents[:]
        fields.inputs[0].contents.fp32_contents.extend(INPUTS.ravel().tolist())
        sigma = fields.inputs.add(name="sigma", datatype="FP32", shape=[3, 1])
        sigma.contents.fp32_contents.extend([0.1, 0.5, 0.8])
        seed = fields.inputs.add(name="seed", datatype="UINT64", shape=[3])
        seed.contents.uint64_contents.extend([7, 2**64 - 1, 0])
        noise = fields.inputs.add(name="noise", datatype="BYTES", shape=[1])
        noise.contents.bytes_contents.append(b"additive")
        wanted = fields.outputs.add(name="histogram")
        found = arrays(await call("ModelInfer", fields))
        assert list(found) == ["histogram"]
        for index, (sigma_of, seed_of) in enumerate(((0.1, 7), (0.5, 2**64 - 1), (0.8, 0))):
            options = {"sigma": sigma_of, "seed": seed_of, "noise": "additive", "votes": 9}
            assert (
                found["histogram"][index].tolist()
                == (await histograms(client, INPUTS[index : index + 1], **options))[0]
            )
        wanted.parameters["classification"].int64_param = 2
        (output,) = (await call("ModelInfer", fields)).outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [3, 2])


async def test_what_is_served(store: ModelStore) -> None:
    """Health, metadata, configuration and statistics say what they say by HTTP."""
    port = free_port()
    async with serve(store, FakeEngine(CLASSES), grpc_port=port) as client, called(port) as call:
        assert (await call("ServerLive", pb.ServerLiveRequest())).live
        assert (await call("ServerReady", pb.ServerReadyRequest())).ready
        assert (await call("ModelReady", pb.ModelReadyRequest(name="tiny", version="1"))).ready
        assert not (await call("ModelReady", pb.ModelReadyRequest(name="tiny", version="2"))).ready
        server = await call("ServerMetadata", pb.ServerMetadataRequest())
        assert list(server.extensions) == (await client.get("/v2")).json()["extensions"]
        await call("ModelInfer", asked())
        metadata = await call("ModelMetadata", pb.ModelMetadataRequest(name="tiny"))
        told = (await client.get("/v2/models/tiny")).json()
        assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
            (each["name"], each["datatype"], each["shape"]) for each in told["inputs"]
        ]
        config = (await call("ModelConfig", pb.ModelConfigRequest(name="tiny"))).config
        assert (config.max_batch_size, [each.name for each in config.input if not each.optional]) == (1024, ["input"])
        for name in ("", "tiny"):
            (sums,) = (await call("ModelStatistics", pb.ModelStatisticsRequest(name=name))).model_stats
            assert (sums.inference_count, sums.inference_stats.success.count) == (3, 1)


async def test_refusals_have_their_codes(store: ModelStore) -> None:
    """Values, models, models' sizes and calls that do not exist, each named."""
    port, codes = free_port(), grpc.StatusCode
    async with serve(store, FakeEngine(CLASSES), grpc_port=port, max_body_bytes=10**5) as _, called(port) as call:
        code, message = await refused(call("ModelInfer", asked(sgma=1)))
        assert (code, message[:4]) == (codes.INVALID_ARGUMENT, "sgma")
        code, message = await refused(call("ModelInfer", asked(INPUTS + 1)))
        assert (code, message[:12]) == (codes.INVALID_ARGUMENT, "inputs.input")
        unknown = pb.ModelInferRequest(model_name="none")
        assert (await refused(call("ModelInfer", unknown)))[0] is codes.NOT_FOUND
        assert (await refused(call("ModelInfer", b"\xff\xff")))[0] is codes.INVALID_ARGUMENT
        assert (await refused(call("ModelInfer", asked(np.zeros((1000, *SHAPE), np.float32)))))[0] is (
            codes.RESOURCE_EXHAUSTED
        )
        uneven = asked()
        uneven.raw_input_contents.append(b"")
        assert "raw_input_contents: 2 for 1" in (await refused(call("ModelInfer", uneven)))[1]
        shared = asked()
        shared.inputs[0].parameters["shared_memory_region"].string_param = "a"
        assert "shared_memory_region: unknown key" in (await refused(call("ModelInfer", shared)))[1]
        for name in ("ModelStreamInfer", "SystemSharedMemoryStatus", "TraceSetting"):
            assert (await refused(call(name, pb.ServerLiveRequest())))[0] is codes.UNIMPLEMENTED
        packed = {"compression": grpc.Compression.Gzip}
        bomb = asked(np.zeros((30_000, *SHAPE), np.float32))
        assert len(gzip.compress(bomb.SerializeToString())) < 10**5
        assert (await refused(call("ModelInfer", bomb, **packed)))[0] is codes.RESOURCE_EXHAUSTED


async def test_keys_come_in_the_metadata(store: ModelStore, tmp_path: Path) -> None:
    """Health needs none, the repository an admin's; a key's shares are counted."""
    port, codes = free_port(), grpc.StatusCode
    quotas = {"votes_per_minute": 100, "queued_votes": 60}
    bearer = (("authorization", "Bearer alice"),)
    async with keyed(store, tmp_path, quotas=quotas, grpc_port=port, host="127.0.0.1"):
        async with called(port) as call:
            assert (await call("ServerReady", pb.ServerReadyRequest())).ready
            assert (await refused(call("ModelInfer", asked())))[0] is codes.UNAUTHENTICATED
            assert (await refused(call("RepositoryIndex", pb.RepositoryIndexRequest())))[0] is codes.UNAUTHENTICATED
        async with called(port, bearer) as call:
            assert (await call("ModelInfer", asked(votes=20))).model_name == "tiny"
            assert (await refused(call("ModelInfer", asked(votes=21))))[0] is codes.PERMISSION_DENIED
            assert (await refused(call("ModelInfer", asked(votes=20))))[0] is codes.RESOURCE_EXHAUSTED
            assert (await refused(call("RepositoryIndex", pb.RepositoryIndexRequest())))[0] is codes.PERMISSION_DENIED
        async with called(port, (("x-api-key", "ops"),)) as call:
            load = pb.RepositoryModelLoadRequest(model_name="tiny")
            load.parameters["config"].string_param = "{}"
            code, message = await refused(call("RepositoryModelLoad", load))
            assert (code, message[:18]) == (codes.PERMISSION_DENIED, "parameters.config:")


async def test_a_client_that_leaves_takes_its_votes_along(store: ModelStore) -> None:
    """What is not yet computed is dropped, as when an HTTP connection closes."""
    port, engine = free_port(), FakeEngine(CLASSES)
    async with serve(store, engine, grpc_port=port) as client, called(port) as call:
        engine.may_run.clear()
        waiting = asyncio.create_task(call("ModelInfer", asked(votes=1000)))
        await until(lambda: bool(engine.batches))
        waiting.cancel()
        transport: Any = client._transport
        dispatcher = transport.app.state.runtime.dispatcher
        await until(lambda: dispatcher.load().requests == 0)
        engine.may_run.set()


async def test_the_end_waits_for_what_was_accepted(store: ModelStore) -> None:
    """Draining refuses new calls with UNAVAILABLE, and answers those that were accepted."""
    port, engine = free_port(), FakeEngine(CLASSES)
    async with serve(store, engine, grpc_port=port) as client, called(port) as call:
        engine.may_run.clear()
        waiting = asyncio.create_task(call("ModelInfer", asked(votes=50)))
        await until(lambda: bool(engine.batches))
        transport: Any = client._transport
        draining = asyncio.create_task(transport.app.state.runtime.drain())
        await until(lambda: bool(transport.app.state.runtime.dispatcher.draining))
        assert (await refused(call("ModelInfer", asked())))[0] is grpc.StatusCode.UNAVAILABLE
        assert not (await call("ServerReady", pb.ServerReadyRequest())).ready
        engine.may_run.set()
        assert arrays(await waiting)["votes_used"].tolist() == [50, 50, 50]
        await draining


def test_without_the_library_it_says_what_to_install(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a port is set for it; without one nothing of it is imported."""
    monkeypatch.setattr(beside, "find_spec", lambda _: None)
    create_app(Settings(model_store=store.root), FakeEngine(CLASSES), access=OPEN)
    with pytest.raises(SettingsError, match=r"noisevote\[grpc\]"):
        create_app(Settings(model_store=store.root, grpc_port=1), FakeEngine(CLASSES), access=OPEN)
