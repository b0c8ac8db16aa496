"""What the engine is given: rows of one session, of any requests, as arrays."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.stopping import StopRule


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
    at before the end.
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

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Rows of several feeds, one after another."""
        if len(parts) == 1:
            return parts[0]
        first = np.cumsum([0, *(len(part.input) for part in parts[:-1])])
        return cls(
            input=np.concatenate([part.input for part in parts]),
            sigma=np.concatenate([part.sigma for part in parts]),
            seed=np.concatenate([part.seed for part in parts]),
            vote=np.concatenate([part.vote for part in parts]),
            row=np.concatenate([part.row + offset for part, offset in zip(parts, first, strict=True)]),
        )

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
        return Feeds.join([_feeds(share) for share in self.shares])


def _feeds(share: Share) -> Feeds:
    request = share.request
    distinct, row = np.unique(share.inputs, return_inverse=True)
    # Input i draws with seed + i modulo 2⁶⁴; the operator reads the same 64 bits as an int64.
    seed = np.array([request.seed], np.uint64) + share.inputs.astype(np.uint64)
    return Feeds(
        input=request.inputs[distinct],
        sigma=np.broadcast_to(np.array(request.sigma, np.float32), (len(row), 2)),
        seed=seed.view(np.int64),
        vote=share.votes,
        row=row.astype(np.int64),
    )
