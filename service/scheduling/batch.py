"""What the engine is given: rows of one session, of any requests, as arrays."""

import itertools
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
        first, *others = map(_feeds_of, self.shares)
        return _joined([first, *others]) if others else first


def _feeds_of(share: Share) -> Feeds:
    """The rows of one request."""
    request, inputs, row = share.request, share.request.inputs, share.inputs
    if len(inputs) > 1:
        distinct, row = np.unique(share.inputs, return_inverse=True)
        inputs = inputs[distinct]
    return Feeds(
        input=inputs,
        sigma=np.full((len(row), 2), request.sigma, np.float32),
        # Input i draws with seed + i modulo 2⁶⁴; the operator reads the same 64 bits as an int64.
        seed=(share.inputs.astype(np.uint64) + np.uint64(request.seed)).view(np.int64),
        vote=share.votes,
        row=row.astype(np.int64, copy=False),
    )


def _joined(parts: list[Feeds]) -> Feeds:
    """Rows of several requests, each with its own inputs."""
    first = itertools.accumulate((len(part.input) for part in parts), initial=0)
    return Feeds(
        input=np.concatenate([part.input for part in parts]),
        sigma=np.concatenate([part.sigma for part in parts]),
        seed=np.concatenate([part.seed for part in parts]),
        vote=np.concatenate([part.vote for part in parts]),
        row=np.concatenate([part.row + before for part, before in zip(parts, first, strict=False)]),
    )
