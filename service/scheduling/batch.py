"""What the engine is given: rows of one session, of any requests, as arrays."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noisevote.voting.stopping import StopRule


class SessionKey(NamedTuple):
    """One variant of one published version."""

    model: str
    version: str
    variant: str

    def __str__(self) -> str:
        return f"{self.model} {self.version} {self.variant}"


@dataclass(frozen=True, eq=False)
class VoteRequest:
    """A request as the scheduler knows it; told apart by identity.

    `inputs` is float32 [n, *shape]; `sigma` the operator's (multiplicative, additive) pair, reads
    folded in; `seed` 64 unsigned bits; `votes` the budget of each input; `priority` its weight against
    other requests, at least 1; `anytime` asks for votes on all inputs alike, because they may be looked
    at before the end; `first_vote` is the number of each input's first vote, the others follow.
    """

    session: SessionKey
    inputs: NDArray[np.float32]
    classes: int
    sigma: tuple[float, float]
    seed: int
    votes: int
    rule: StopRule
    priority: int = 1
    anytime: bool = False
    first_vote: int = 0

    @property
    def bytes(self) -> int:
        """What it keeps in memory while it waits: inputs, and two numbers per input and class for its tally."""
        return self.inputs.nbytes + len(self.inputs) * self.classes * 2 * np.dtype(np.int64).itemsize

    @property
    def rows(self) -> int:
        """Rows that it may take in all."""
        return len(self.inputs) * self.votes


@dataclass(frozen=True)
class Share:
    """The rows of one request in a batch: which input and which vote number each is, int64 [rows]."""

    request: VoteRequest
    inputs: NDArray[np.int64]
    votes: NDArray[np.int64]


@dataclass(frozen=True)
class Feeds:
    """Inputs of a published graph: see docs/architecture.md, "Sessions and rows"."""

    input: NDArray[np.float32]
    sigma: NDArray[np.float32]
    seed: NDArray[np.int64]
    vote: NDArray[np.int64]
    row: NDArray[np.int64]

    def rows(self, wanted: NDArray[np.int64]) -> "Feeds":
        """Some of the rows, with all inputs."""
        return Feeds(self.input, self.sigma[wanted], self.seed[wanted], self.vote[wanted], self.row[wanted])

    def as_dict(self) -> dict[str, NDArray[np.generic]]:
        """By the graph's input names."""
        return {"input": self.input, "sigma": self.sigma, "seed": self.seed, "vote": self.vote, "row": self.row}


@dataclass(frozen=True)
class Batch:
    """The rows of one ONNX Runtime run: shares of requests to one session, in row order."""

    session: SessionKey
    shares: tuple[Share, ...]

    def __len__(self) -> int:
        return sum(len(share.inputs) for share in self.shares)

    def feeds(self) -> Feeds:
        """The batch as arrays. An input that several rows share is there once."""
        requests = [share.request for share in self.shares]
        rows = [len(share.inputs) for share in self.shares]
        parts = [_distinct(share) for share in self.shares]  # inputs, and which of them each row reads
        first = np.cumsum([0, *(len(inputs) for inputs, _ in parts[:-1])])
        # Input i draws with seed + i modulo 2⁶⁴; the operator reads the same 64 bits as an int64.
        seeds = np.repeat(np.array([request.seed for request in requests], np.uint64), rows)
        numbers = np.concatenate([share.inputs for share in self.shares]).astype(np.uint64)
        return Feeds(
            input=np.concatenate([inputs for inputs, _ in parts]),
            sigma=np.repeat(np.array([request.sigma for request in requests], np.float32), rows, axis=0),
            seed=(seeds + numbers).view(np.int64),
            vote=np.concatenate([share.votes for share in self.shares]),
            row=np.concatenate([row for _, row in parts]) + np.repeat(first, rows),
        )


def _distinct(share: Share) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The inputs that a share reads, float32 [n, *shape], and which of them each row reads, int64 [rows]."""
    if len(share.request.inputs) == 1:
        return share.request.inputs, share.inputs
    distinct, row = np.unique(share.inputs, return_inverse=True)
    return share.request.inputs[distinct], row.astype(np.int64)
