"""kserve's InferenceClient, REST and gRPC: health, errors, and comparisons in JSON and binary."""

import asyncio
import itertools
from typing import Any

import httpx
import numpy as np
from comparison import INPUTS, MODEL, Ask, arguments, compare
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

HTTP, GRPC, WANTED = arguments()
FORMS = itertools.cycle((False, True))
DATATYPES = {"float32": "FP32", "int64": "INT64", "uint64": "UINT64", "object": "BYTES"}


def tensor(name: str, values: Any, *, binary: bool) -> Any:
    """A tensor as the client sends it."""
    sent = InferInput(name, list(values.shape), DATATYPES[values.dtype.name])
    sent.set_data_from_numpy(values, binary_data=binary)
    return sent


def rest() -> Any:
    """A client by REST."""
    return InferenceRESTClient(RESTConfig(protocol="v2", timeout=120))


def request_of(named: dict[str, Any], parameters: dict[str, Any], *, binary: bool) -> Any:
    """A request as the client sends it."""
    sent = [tensor(name, values, binary=binary) for name, values in named.items()]
    return InferRequest(MODEL, sent, parameters=parameters, request_outputs=[RequestedOutput("histogram")])


def asking() -> Ask:
    """A client of its own, on an event loop of its own."""
    runner, client = asyncio.Runner(), rest()

    def ask(inputs: Any, parameters: dict[str, Any], tensors: dict[str, Any]) -> Any:
        request = request_of({"input": inputs, **tensors}, parameters, binary=next(FORMS))
        answer = runner.run(client.infer(HTTP, request, model_name=MODEL))
        return answer.get_output_by_name("histogram").as_numpy().reshape(len(inputs), -1)

    return ask


async def tried() -> None:
    """Try everything once."""
    client = rest()
    assert await client.is_server_live(HTTP)
    assert await client.is_server_ready(HTTP)
    assert await client.is_model_ready(HTTP, MODEL)
    assert not await client.is_model_ready(HTTP, "none")
    options = {"sigma": 0.8, "votes": 5, "seed": 7}
    by_rest = await client.infer(HTTP, request_of({"input": INPUTS}, options, binary=True), model_name=MODEL)
    assert by_rest.parameters["seed"] == 7
    try:
        await client.infer(HTTP, request_of({"input": INPUTS}, {"votes": 0}, binary=False), model_name=MODEL)
    except httpx.HTTPStatusError as error:
        assert "votes: 0" in str(error), error
    else:
        raise AssertionError("votes 0 were accepted")
    by_grpc = InferenceGRPCClient(GRPC)
    assert await by_grpc.is_server_live()
    assert await by_grpc.is_server_ready()
    assert await by_grpc.is_model_ready(MODEL)
    sigma = {"input": INPUTS, "sigma": np.array([0.8], np.float32)}  # of parameters it sends no floats by gRPC
    answer = await by_grpc.infer(request_of(sigma, {"votes": 5, "seed": 7}, binary=True))
    found = [each.get_output_by_name("histogram").as_numpy().reshape(len(INPUTS), -1) for each in (by_rest, answer)]
    assert np.array_equal(*found)


asyncio.run(tried())
compare(HTTP, asking, WANTED)
