"""What the engine is given: rows of one session, of any requests, as arrays."""

from dataclasses import dataclass

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
