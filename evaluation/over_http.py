"""A model measured against a running server, as its clients see it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import Cell, Measured
from noisevote.noise_op.contract import NoiseKind

SECONDS = 600.0
VALUES = 100_000  # numbers of a body, about 2 MB of JSON
MOST_INPUTS = 64
RETRIES = 50


class ServerError(Exception):
    """The server does not answer as it should; the message has what it said."""


@dataclass(frozen=True)
class ServedModel:
    """A model of a server: its address, key if it wants one, name, version (None: newest) and variant (or auto)."""

    url: str
    key: str | None
    name: str
    version: str | None
    variant: str

    def description(self) -> Any:
        """What `GET /v1/models/…` says.

        Raises:
            ServerError: it says something else.
        """
        with self._client() as client:
            return _checked(client.get(self._path())).json()

    def cell(
        self, data: Labelled, noise: tuple[NoiseKind, float, int], plan: Plan, progress: Callable[[int], Any]
    ) -> tuple[Cell, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
        """Accuracy at each number of votes; and as `Decisions` keeps it, what the most votes decided.

        Each number of votes is a request of its own, of the same seed, so that fewer votes are the first of more.

        Raises:
            ServerError: a request fails.
        """
        kind, sigma, reads = noise
        counts = [1] if sigma == 0 else list(plan.counts or (plan.votes,))
        measured, began = [], time.perf_counter()
        decided = surest_class = np.zeros(len(data), np.int64)
        surest = np.zeros(len(data))
        with self._client() as client:
            for votes in counts:
                keys = {"noise": kind, "sigma": sigma, "reads": reads, "votes": votes, "variant": self.variant}
                answers = [each for chosen in _parts(data) for each in self._ask(client, data, chosen, keys, plan.seed)]
                progress(votes * len(data))
                decided = np.array([each["index"] for each in answers], np.int64)
                means = np.array([each["mean_probabilities"] for each in answers])
                surest, surest_class = means.max(axis=1), means.argmax(axis=1)
                right = (float(np.mean(found == data.labels)) for found in (decided, surest_class))
                measured.append(
                    Measured(votes=votes, accuracy=next(right), spread=None, groups=1, soft_accuracy=next(right))
                )
        seconds = round(time.perf_counter() - began, 2)
        cell = Cell(noise=kind, sigma=sigma, passes=counts[-1], seconds=seconds, measured=tuple(measured), reads=reads)
        return cell, (decided, surest, surest_class)

    def _ask(self, client: httpx.Client, data: Labelled, chosen: slice, keys: dict[str, Any], seed: int) -> list[Any]:
        inputs = data.values(chosen)
        body = keys | {"inputs": inputs.tolist(), "seed": seed + chosen.start}
        for _ in range(RETRIES):
            answer = client.post(f"{self._path()}/predict", json=body)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(float(answer.headers.get("retry-after", "1")))
        return list(_checked(answer).json()["predictions"])

    def _path(self) -> str:
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v1/models/{self.name}{version}"

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS)


def _parts(data: Labelled) -> Iterator[slice]:
    """Requests of so many examples that bodies stay short."""
    values = int(data.values(slice(0, 1)).size)
    size = max(1, min(MOST_INPUTS, VALUES // values))
    for start in range(0, len(data), size):
        yield slice(start, min(start + size, len(data)))


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.text[:200]
    raise ServerError(f"{answer.request.method} {answer.request.url}: {answer.status_code}: {message}")
