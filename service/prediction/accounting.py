"""What became of one request, from its arrival to its answer or error, as the metrics tell it."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from starlette.requests import ClientDisconnect

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import ClientLeftError, ServiceError
from noisevote.service.metrics import OK, Metrics
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes

UNKNOWN: Final = SessionKey("", "", "")
# What became of the votes of an accepted request that ended with such an error; with any other, it failed.
DROPPED_BY: Final = {"deadline_exceeded": "deadline", "client_left": "cancelled", "draining": "cancelled"}


class RequestRecord:
    """A context around the handling of a request. Names that were not found to be served never enter it.

    Every vote asked for by an accepted request is accounted for once, at the request's end: cast, saved
    or dropped.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._began = 0.0
        self._session = UNKNOWN
        self._rule = ""
        self._request: VoteRequest | None = None
        self._error: ServiceError | None = None
        self._open = 0  # votes asked for and not yet accounted for

    def __enter__(self) -> Self:
        self._began = self._metrics.clock()
        return self

    def serves(self, model: str, version: str) -> None:
        """The model and version that were asked for are served."""
        self._session = SessionKey(model, version, "")

    def asks(self, request: VoteRequest, rule: str) -> None:
        """What the request is about, which is now to be queued."""
        self._session, self._rule, self._request = request.session, rule, request

    def accepted(self) -> None:
        """It was queued."""
        assert self._request is not None  # `asks` was called before
        self._open = self._request.rows

    def answers(self, answer: CountedVotes, predictions: Sequence[Mapping[str, Any]]) -> None:
        """The request is answered with these predictions, one an input."""
        assert self._request is not None  # as above
        used, complete = answer.tally.votes_used, answer.complete
        inputs, inputs_complete = len(complete), int(np.count_nonzero(complete))
        saved = self._request.votes * inputs_complete - int(used[complete].sum())
        self._account(int(used.sum()), saved, "deadline")
        children = self._metrics.of_session(self._session)
        children.queue.observe(answer.queue_s)
        children.predictions.inc(inputs)
        if abstentions := sum(prediction["abstain"] for prediction in predictions):
            children.abstentions.inc(abstentions)
        if inputs_complete < inputs:
            children.incomplete.inc(inputs - inputs_complete)

    def fails(self, error: ServiceError) -> None:
        """The request ends with an error that nobody raises any more."""
        self._error = error

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        code = _code(self._error or error)
        self._metrics.requests(self._session, code).inc()
        if code == OK:
            self._metrics.of_session(self._session).duration.observe(self._metrics.clock() - self._began)
        elif self._open:
            self._account(0, 0, DROPPED_BY.get(code, "failed"))

    def _account(self, cast: int, saved: int, reason: str) -> None:
        """Neither cast nor saved means dropped, for this reason."""
        votes = self._metrics.of_rule(self._session, self._rule)
        votes.votes_asked.inc(self._open)
        votes.votes_cast.inc(cast)
        if saved:
            votes.votes_saved.inc(saved)
        if dropped := self._open - cast - saved:
            self._metrics.of_session(self._session).votes_dropped[reason].inc(dropped)
        self._open = 0


def _code(error: BaseException | None) -> str:
    if error is None:
        return OK
    if isinstance(error, ServiceError):
        return error.code
    left = isinstance(error, (asyncio.CancelledError, ClientDisconnect))
    return ClientLeftError.code if left else "internal_error"
