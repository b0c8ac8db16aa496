"""`top_k` and `preprocess` of the Open Inference Protocol, by HTTP and gRPC, are those of /v1."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from noisevote.model_store.manifest import InputSpec, Preprocess
from noisevote.model_store.store import ModelStore
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest
from tests.support.open_inference import tensor
from tests.support.process import free_port
from tests.support.serving import serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH, V1 = "/v2/models/shown/infer", "/v1/models/shown/predict"
OPTIONS: dict[str, Any] = {"sigma": 1.0, "votes": 30, "seed": 7}
PORT = free_port()


def photograph(seed: int) -> bytes:
    """A PNG of another size than the model's."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (23, 31), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


FILES = [photograph(seed) for seed in range(2)]
TEXTS = [base64.b64encode(content).decode() for content in FILES]
IMAGES = tensor("input", "BYTES", TEXTS, [2])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """Of a server with `shown`, whose manifest declares preprocessing, and `plain`, whose does not."""
    store, content = ModelStore(Path(tmp_path_factory.mktemp("served")) / "models"), {"v": tiny_network()}
    classes = tuple(f"class {index}" for index in range(CLASSES))
    for name, declared in (("shown", Preprocess(mean=(0.4,), std=(0.3,))), ("plain", None)):
        spec = InputSpec(shape=SHAPE, value_range=(-4, 4), preprocess=declared)
        described = manifest(content, name, shape=SHAPE, classes=classes).model_copy(update={"input": spec})
        store.publish(described, content)
    try:
        import grpc  # noqa: F401  # of an extra
    except ImportError:
        options: dict[str, Any] = {}
    else:
        options = {"grpc_port": PORT}
    async with serve(store, **options) as found:
        yield found


async def of_v1(client: httpx.AsyncClient, **more: Any) -> list[dict[str, Any]]:
    """What /v1 answers for the images."""
    body = {"inputs": [{"image": text} for text in TEXTS], "preprocess": True, **OPTIONS, **more}
    answer = await client.post(V1, json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


async def of_v2(client: httpx.AsyncClient, path: str = PATH, sent: Any = IMAGES, **parameters: Any) -> httpx.Response:
    """What /v2 answers."""
    outputs = parameters.pop("outputs", None)
    body = {"inputs": [sent], "parameters": OPTIONS | parameters}
    return await client.post(path, json=body if outputs is None else body | {"outputs": outputs})


def by_name(answer: httpx.Response) -> dict[str, Any]:
    """Data of each output."""
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


async def test_images_of_any_size_are_made_inputs(client: httpx.AsyncClient) -> None:
    """By the manifest, with the same votes."""
    found = by_name(await of_v2(client, preprocess=True))
    expected = [each["histogram"] for each in await of_v1(client)]
    assert np.array(found["histogram"]).reshape(2, CLASSES).tolist() == expected
    assert len(set(map(tuple, expected))) == 2


async def test_leading_classes_stand_for_all(client: httpx.AsyncClient) -> None:
    """Votes, indices and labels in the order of the decision, as in `top`; other outputs are as they are."""
    found = by_name(await of_v2(client, preprocess=True, top_k=3))
    told = await of_v1(client, top_k=3)
    votes = [f"{each['votes']}:{each['index']}:{each['label']}" for answer in told for each in answer["top"]]
    assert found["histogram"] == votes
    assert len(found["probability"]) == 6
    assert found["label"] == [each["index"] for each in told]
    asked = by_name(await of_v2(client, preprocess=True, top_k=99, outputs=[{"name": "histogram"}]))
    assert len(asked["histogram"]) == 2 * CLASSES


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "top_k: 0"),
        ({"top_k": 2, "outputs": [{"name": "label"}]}, "top_k: 2 beside outputs of which none is histogram or"),
        (
            {"top_k": 2, "outputs": [{"name": "histogram", "parameters": {"classification": 3}}]},
            "top_k: 2 beside classification 3 of histogram; give one of the two",
        ),
        ({"preprocess": 1}, "preprocess: 1"),
        ({}, "inputs.input[0]: this model takes normalised images; ask with preprocess: true"),
        (
            {"preprocess": True, "sent": tensor("input", "FP32", np.zeros((1, *SHAPE), np.float32))},
            "preprocess: true beside FP32; it is for images, of datatype BYTES",
        ),
        ({"preprocess": True, "path": "/v2/models/plain/infer"}, "preprocess: true, but this model's manifest"),
    ],
)
async def test_what_means_nothing_is_refused(
    client: httpx.AsyncClient, parameters: dict[str, Any], message: str
) -> None:
    """By key and value."""
    answer = await of_v2(client, **parameters)
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["error"]


async def test_grpc_has_them_too(client: httpx.AsyncClient) -> None:
    """As parameters of its own kinds; images as their bytes."""
    grpc = pytest.importorskip("grpc", reason="grpcio, of the extra `grpc`, is not installed")
    from noisevote.service.grpc import inference_pb2 as pb  # needs protobuf, of the same extra

    request = pb.ModelInferRequest(model_name="shown")
    request.inputs.add(name="input", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(FILES)
    for key, kind, value in (
        ("sigma", "double_param", 1.0), ("votes", "int64_param", 30), ("seed", "int64_param", 7),
        ("top_k", "int64_param", 2), ("preprocess", "bool_param", True),
    ):  # fmt: skip
        setattr(request.parameters[key], kind, value)
    request.outputs.add(name="histogram")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{PORT}") as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = await method(request, timeout=30)
    told = [each for prediction in await of_v1(client, top_k=2) for each in prediction["top"]]
    texts = [f"{each['votes']}:{each['index']}:{each['label']}".encode() for each in told]
    assert answer.raw_output_contents[0] == b"".join(len(text).to_bytes(4, "little") + text for text in texts)
