"""Compares what a stock client gets with what /v1 answers. Runs in the client's own environment: NumPy and no more."""

import http.client
import json
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np

MODEL = "mnist-cnn"
INPUTS = np.random.default_rng(3).random((8, 1, 28, 28), dtype=np.float32)
KINDS = {"sigma": np.float32, "votes": np.int64, "seed": np.uint64, "noise": np.object_, "reads": np.int64}
# How a client asks: inputs float32 [n, 1, 28, 28], parameters, and tensors of one value or one per input by name.
Ask = Callable[[Any, dict[str, Any], dict[str, Any]], Any]


class Asked:
    """A request of one to three inputs: each option as a parameter, as a tensor, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        first = rng.randrange(len(INPUTS) - 2)
        self.inputs = INPUTS[first : first + rng.choice([1, 2, 3])]
        count = len(self.inputs)
        draw: dict[str, Callable[[], Any]] = {
            "sigma": lambda: rng.choice([0.1, 0.3, 0.8, 1.2]),
            "votes": lambda: rng.randint(1, 4),
            "seed": lambda: rng.randrange(2**63),
            "noise": lambda: rng.choice(["multiplicative", "additive"]),
            "reads": lambda: rng.choice([1, 2, 5]),
        }
        self.parameters: dict[str, Any] = {}
        self.tensors: dict[str, Any] = {}
        for name, value in draw.items():
            how = rng.choice(
                ["parameter", "one", "each"] if name in {"sigma", "votes", "seed"} else ["", "parameter", "each"]
            )
            if how == "parameter":
                self.parameters[name] = value()
            elif how:
                values = [value() for _ in range(1 if how == "one" else count)]
                self.tensors[name] = np.array(values, KINDS[name])

    def as_v1(self, index: int) -> dict[str, Any]:
        """The request to /v1 for one of its inputs alone."""
        options = dict(self.parameters)
        for name, values in self.tensors.items():
            value = values[index if len(values) > 1 else 0]
            options[name] = float(str(value)) if name == "sigma" else value if name == "noise" else int(value)
        if len(self.tensors.get("seed", ())) < 2:
            options["seed"] += index
        return {"inputs": [self.inputs[index].tolist()], **options}


class V1:
    """Asks /v1, by one connection for each thread."""

    def __init__(self, address: str) -> None:
        self._address = urlsplit(address).netloc
        self._own = threading.local()

    def histogram(self, body: dict[str, Any]) -> list[int]:
        """The histogram of a request with one input."""
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._address, timeout=120)
        connection = self._own.connection
        headers = {"content-type": "application/json"}
        connection.request("POST", f"/v1/models/{MODEL}/predict", json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read())
        return list(answer["predictions"][0]["histogram"])


def compare(address: str, ask_of_thread: Callable[[], Ask], wanted: int, workers: int = 8) -> None:
    """Compare at least so many histograms, in as many threads; print how many, and how many differ."""
    v1, own = V1(address), threading.local()

    def compared(number: int) -> tuple[int, int]:
        if not hasattr(own, "ask"):
            own.ask = ask_of_thread()
        asked = Asked(random.Random(number))
        found = np.asarray(own.ask(asked.inputs, asked.parameters, asked.tensors))
        told = [v1.histogram(asked.as_v1(index)) for index in range(len(asked.inputs))]
        return len(told), sum(list(map(int, row)) != right for row, right in zip(found, told, strict=True))

    with ThreadPoolExecutor(workers) as pool:
        counts = list(pool.map(compared, range(wanted // 2)))
    print(json.dumps({"compared": sum(count for count, _ in counts), "different": sum(wrong for _, wrong in counts)}))


def arguments() -> tuple[str, str, int]:
    """The HTTP address, gRPC's, and how many histograms to compare."""
    return sys.argv[1], sys.argv[2], int(sys.argv[3])
