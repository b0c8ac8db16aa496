"""Requests of the Open Inference Protocol as a client without a library makes them."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

HEADER: Final = "inference-header-content-length"
DTYPES: Final = {
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT64": "<u8",
    "BOOL": "?",
}  # fmt: skip


def tensor(name: str, datatype: str, values: Any, shape: Sequence[int] | None = None) -> dict[str, Any]:
    """A tensor as JSON."""
    array = np.asarray(values, DTYPES.get(datatype))
    return {"name": name, "shape": list(shape or array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def binary(content: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The same request with all its tensors in binary: body and headers."""
    after, tensors = [], []
    for each in content["inputs"]:
        raw = _raw(each["datatype"], each["data"])
        after.append(raw)
        sent = {key: value for key, value in each.items() if key != "data"}
        tensors.append(sent | {"parameters": {"binary_data_size": len(raw)}})
    head = json.dumps({**content, "inputs": tensors}).encode()
    return b"".join((head, *after)), {HEADER: str(len(head))}


def _raw(datatype: str, data: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(each).to_bytes(4, "little") + each for each in (text.encode() for text in data))
    return np.array(data, DTYPES[datatype]).tobytes()


def outputs(response: httpx.Response) -> dict[str, NDArray[Any] | list[str]]:
    """The outputs of an answer by name, JSON or binary; BYTES as a list of texts."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    content, start = json.loads(response.content[:length]), length
    found: dict[str, NDArray[Any] | list[str]] = {}
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            raw = response.content[start : start + size]
            start += size
            found[output["name"]] = _read(output, raw)
        elif output["datatype"] == "BYTES":
            found[output["name"]] = output["data"]
        else:
            found[output["name"]] = np.array(output["data"], DTYPES[output["datatype"]]).reshape(output["shape"])
    assert start == len(response.content)
    return found


@dataclass(frozen=True)
class AskedOptions:
    """Options of some inputs: parameters by name, and tensors of one value or one per input."""

    inputs: int
    parameters: dict[str, Any]
    columns: dict[str, list[Any]]

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """The tensors as JSON."""
        return [tensor(name, VALUES[name][0], values) for name, values in self.columns.items()]

    def as_v1(self, index: int, seed: int | str) -> dict[str, Any]:
        """The options of a request to /v1 for one input alone, where the answer said this seed."""
        each = {name: values[index if len(values) > 1 else 0] for name, values in self.columns.items()}
        options = self.parameters | each
        if isinstance(seed, int) and (self.inputs == 1 or len(self.columns.get("seed", ())) < self.inputs):
            options["seed"] = (seed + index) % 2**64
        return options | ({"stop": {"rule": options["stop"]}} if "stop" in options else {})


# Options by their datatypes, and values of each.
VALUES: Final[Mapping[str, tuple[str, Callable[[random.Random], Any]]]] = {
    "sigma": ("FP32", lambda rng: rng.choice([0.0, 0.1, 0.3, 0.8, 1.5])),
    "noise": ("BYTES", lambda rng: rng.choice(["multiplicative", "additive"])),
    "votes": ("INT32", lambda rng: rng.randint(1, 12)),
    "reads": ("INT64", lambda rng: rng.choice([1, 2, 7])),
    "seed": ("UINT64", lambda rng: rng.randrange(2**64)),
    "first_vote": ("INT64", lambda rng: rng.randrange(2**31)),
    "stop": ("BYTES", lambda rng: rng.choice(["fixed", "exact", "confidence"])),
    "alpha": ("FP64", lambda rng: rng.uniform(0.01, 0.5)),
}


def some_options(rng: random.Random, inputs: int) -> AskedOptions:
    """Each option as a parameter, as a tensor, or not at all."""
    parameters: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for name, (_, draw) in VALUES.items():
        how = rng.choice(["absent", "parameter", "one", "each"])
        if how == "parameter":
            parameters[name] = draw(rng)
        elif how != "absent":
            columns[name] = [draw(rng) for _ in range(1 if how == "one" else inputs)]
    return AskedOptions(inputs, parameters, columns)


def _read(output: Mapping[str, Any], raw: bytes) -> NDArray[Any] | list[str]:
    if output["datatype"] != "BYTES":
        return np.frombuffer(raw, DTYPES[output["datatype"]]).reshape(output["shape"])
    texts = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        texts.append(raw[4:end].decode())
        raw = raw[end:]
    return texts
