"""Triton's gRPC client: health, metadata, errors, and comparisons."""

from typing import Any

import tritonclient.grpc as triton
from comparison import INPUTS, MODEL, Ask, arguments, compare
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

HTTP, GRPC, WANTED = arguments()


def tensor(name: str, values: Any) -> Any:
    """A tensor as the client sends it."""
    sent = triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
    sent.set_data_from_numpy(values)
    return sent


def asking() -> Ask:
    """A client of its own."""
    client = triton.InferenceServerClient(GRPC)

    def ask(inputs: Any, parameters: dict[str, Any], tensors: dict[str, Any]) -> Any:
        named = {"input": inputs, **tensors}
        sent = [tensor(name, values) for name, values in named.items()]
        wanted = [triton.InferRequestedOutput("histogram")]
        return client.infer(MODEL, sent, outputs=wanted, parameters=parameters).as_numpy("histogram")

    return ask


def refused(call: Any, code: str) -> None:
    """Assert that a call is refused with this code."""
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", error
    else:
        raise AssertionError(code)


def main() -> None:
    """Try everything once, then compare."""
    client = triton.InferenceServerClient(GRPC)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata().extensions
    assert list(client.get_model_metadata(MODEL).inputs[0].shape) == [-1, 1, 28, 28]
    assert client.get_model_config(MODEL).config.max_batch_size > 1
    one = tensor("input", INPUTS[:1])
    top = client.infer(MODEL, [one], outputs=[triton.InferRequestedOutput("probability", class_count=2)])
    assert [len(each.split(b":")) for each in top.as_numpy("probability")[0]] == [3, 3]
    packed = client.infer(MODEL, [one], request_id="a", timeout=60_000_000, compression_algorithm="gzip")
    assert (packed.get_response().id, packed.as_numpy("votes_used").tolist()) == ("a", [20])
    refused(lambda: client.infer("none", [one]), "NOT_FOUND")
    refused(lambda: client.infer(MODEL, [one], parameters={"votes": 0}), "INVALID_ARGUMENT")
    refused(lambda: client.load_model(MODEL), "PERMISSION_DENIED")
    refused(client.get_trace_settings, "UNIMPLEMENTED")
    refused(client.get_system_shared_memory_status, "UNIMPLEMENTED")
    assert client.get_inference_statistics(MODEL).model_stats[0].inference_stats.success.count >= 2
    compare(HTTP, asking, WANTED)


main()
