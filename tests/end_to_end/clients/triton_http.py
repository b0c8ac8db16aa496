"""Triton's HTTP client: health, metadata, errors, packed bodies, and comparisons in JSON and binary."""

import itertools
from typing import Any
from urllib.parse import urlsplit

import tritonclient.http as triton
from comparison import INPUTS, MODEL, Ask, arguments, compare
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

HTTP, _, WANTED = arguments()
FORMS = itertools.cycle(itertools.product((False, True), (None, "gzip", "deflate"), (None, "gzip", "deflate")))


def connected() -> Any:
    """A client of its own."""
    return triton.InferenceServerClient(urlsplit(HTTP).netloc, network_timeout=120, connection_timeout=120)


def tensor(name: str, values: Any, *, binary: bool) -> Any:
    """A tensor as the client sends it."""
    sent = triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
    sent.set_data_from_numpy(values, binary_data=binary)
    return sent


def asking() -> Ask:
    """A client of its own that takes turns in all forms of bodies."""
    client = connected()

    def ask(inputs: Any, parameters: dict[str, Any], tensors: dict[str, Any]) -> Any:
        binary, sent, received = next(FORMS)
        named = {"input": inputs, **tensors}
        return client.infer(
            MODEL,
            [tensor(name, values, binary=binary) for name, values in named.items()],
            outputs=[triton.InferRequestedOutput("histogram", binary_data=binary)],
            parameters=parameters,
            request_compression_algorithm=sent,
            response_compression_algorithm=received,
        ).as_numpy("histogram")

    return ask


def refused(call: Any, status: str) -> None:
    """Assert that a call is refused with a message that the client could decode."""
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == status, error
        assert "exception occurred in the client" not in str(error), error
    else:
        raise AssertionError(status)


def main() -> None:
    """Try everything once, then compare."""
    client = connected()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL)["inputs"][0]["shape"] == [-1, 1, 28, 28]
    assert client.get_model_config(MODEL)["max_batch_size"] > 1
    one = tensor("input", INPUTS[:1], binary=True)
    top = client.infer(MODEL, [one], outputs=[triton.InferRequestedOutput("probability", class_count=2)])
    assert [len(each.split(b":")) for each in top.as_numpy("probability")[0]] == [3, 3]
    everything = client.infer(MODEL, [one], request_id="a", priority=2, timeout=60_000_000)
    assert everything.get_response()["id"] == "a"
    assert everything.as_numpy("votes_used").tolist() == [20]
    waiting = [client.async_infer(MODEL, [one], parameters={"votes": votes}) for votes in (1, 2, 3)]
    assert [each.get_result().as_numpy("votes_used")[0] for each in waiting] == [1, 2, 3]
    refused(lambda: client.infer("none", [one]), "404")
    refused(lambda: client.infer(MODEL, [one], parameters={"votes": 0}), "422")
    refused(lambda: client.infer(MODEL, [one], sequence_id=1), "422")
    refused(lambda: client.load_model(MODEL), "403")
    refused(client.get_model_repository_index, "403")
    refused(client.get_system_shared_memory_status, "404")
    assert client.get_inference_statistics(MODEL)["model_stats"][0]["inference_stats"]["success"]["count"] >= 5
    compare(HTTP, asking, WANTED)


main()
