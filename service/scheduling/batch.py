"""What the engine is given: rows of one session, of any requests, as arrays."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.request import VoteRequest


@dataclass(frozen=True)
class Share:
    """The rows of one request in a batch: which input and which vote number each is, int64 [rows]."""

    request: VoteRequest
    inputs: NDArray[np.int64]
    votes: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The rows of one ONNX Runtime run: shares of requests to one session, in row order."""

    session: SessionKey
    shares: tuple[Share, ...]
    _rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", sum([len(share.inputs) for share in self.shares]))

    def __len__(self) -> int:
        return self._rows

    def feeds(self) -> Feeds:
        """The batch as arrays. An input that several rows share is there once."""
        if len(self.shares) == 1:  # a usual case, in which nothing is to be joined
            return _feeds_of(*self.shares)
        requests = [share.request for share in self.shares]
        rows = [len(share.inputs) for share in self.shares]
        parts = [_distinct(share) for share in self.shares]  # inputs, and which of them each row reads
        first = np.cumsum([0, *(len(inputs) for inputs, _ in parts[:-1])])
        seeds = np.repeat(np.array([request.seed for request in requests], np.uint64), rows)
        return Feeds(
            input=np.concatenate([inputs for inputs, _ in parts]),
            sigma=np.repeat(np.array([request.sigma for request in requests], np.float32), rows, axis=0),
            seed=_keys(seeds, np.concatenate([share.inputs for share in self.shares])),
            vote=np.concatenate([share.votes for share in self.shares]),
            row=np.concatenate([row for _, row in parts]) + np.repeat(first, rows),
        )


def _feeds_of(share: Share) -> Feeds:
    """The rows of one request alone."""
    inputs, row = _distinct(share)
    sigma = np.full((len(row), 2), share.request.sigma, np.float32)
    return Feeds(inputs, sigma, _keys(np.uint64(share.request.seed), share.inputs), share.votes, row)


def _keys(seeds: np.uint64 | NDArray[np.uint64], inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Input i draws with seed + i modulo 2⁶⁴; the operator reads the same 64 bits as an int64."""
    return (inputs.astype(np.uint64) + seeds).view(np.int64)


def _distinct(share: Share) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The inputs that a share reads, float32 [n, *shape], and which of them each row reads, int64 [rows]."""
    if len(share.request.inputs) == 1:
        return share.request.inputs, share.inputs
    distinct, row = np.unique(share.inputs, return_inverse=True)
    return share.request.inputs[distinct], row.astype(np.int64)
