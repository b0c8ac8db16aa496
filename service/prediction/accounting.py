"""What became of a request and of each vote that it asked for, as the metrics tell it."""

import asyncio
import time
from functools import partial
from itertools import compress
from math import inf
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect

from noisevote.engine.session_key import SessionKey
from noisevote.service.callers import ANYBODY
from noisevote.service.errors import ClientLeftError, ServiceError
from noisevote.service.metrics import OK, Metrics
from noisevote.service.prediction.answer import Answer
from noisevote.service.prediction.visit import Visit
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.statistics import Phases

UNKNOWN: Final = SessionKey("", "", "")
# What became of the votes of an accepted request that ended with such an error; with any other, it failed.
DROPPED_BY: Final = {"deadline_exceeded": "deadline", "client_left": "cancelled", "draining": "cancelled"}


class RequestRecord:
    """A context around the handling of a request. `session` says what it is about, as far as that is known.

    Names that were not found to be served never become a label. A `visit` goes on after it, until its answer is sent,
    and only then is known how long the request took.
    """

    def __init__(self, metrics: Metrics, visit: Visit | None = None) -> None:
        self.session = UNKNOWN
        self.caller = ANYBODY if visit is None else visit.caller
        self.error: ServiceError | None = None  # what the client was told instead of being raised
        self._metrics = metrics
        self._began = 0.0
        self._visit = visit
        self._accepted: float | None = None
        self._voted = 0  # inputs of its answer
        self._queue_s = inf  # from acceptance to its first batch
        self._voted_s = 0.0  # and to its last vote

    def accept(self) -> None:
        """Note that the request is checked, and begins to wait."""
        self._accepted = self._metrics.clock()

    def note_votes(self, counted: CountedVotes) -> None:
        """Note votes that are part of its answer."""
        self._voted += len(counted.complete)
        self._queue_s = min(self._queue_s, counted.queue_s)
        self._voted_s = max(self._voted_s, counted.queue_s + counted.compute_s)

    def __enter__(self) -> Self:
        self._began = self._metrics.clock()
        return self

    def code(self, raised: BaseException | None) -> str:
        """The request's code, if handling it ends with this."""
        return _code(self.error or raised)

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        code = self.code(error)
        self._metrics.requests(self.session, code).inc()
        self._metrics.count_request_of(self.caller, code)
        now = self._metrics.clock()
        if code == OK:
            self._metrics.of_session(self.session).duration.observe(now - self._began)
        if self.session == UNKNOWN:
            return
        if self._visit is None:
            self._add_up(self._began, self._began, now, ok=code == OK)
        else:
            began = self._began if self._visit.began is None else self._visit.began
            arrived = began if self._visit.arrived is None else self._visit.arrived
            self._visit.tell_end(partial(self._add_up, arrived, began, ok=code == OK))

    def _add_up(self, arrived: float, began: float, now: float, *, ok: bool) -> None:
        """Count a request that arrived, then began to be handled, and has its answer now."""
        sums = self._metrics.statistics.of(self.session.model, self.session.version)
        if not ok:
            sums.failed.add(now - arrived)
        elif self._voted and self._accepted is not None:
            phases = Phases(
                read=self._accepted - began,
                queue=began - arrived + self._queue_s,
                compute=self._voted_s - self._queue_s,
                respond=max(0.0, now - self._accepted - self._voted_s),
            )
            sums.answered(self._voted, phases, now - arrived, round(1e3 * time.time()))


class VoteAccount:
    """A context around the voting of an accepted request.

    At its end every vote that was asked for is accounted for once: cast, saved or dropped.
    """

    def __init__(self, metrics: Metrics, request: VoteRequest, record: RequestRecord, rule: str | None = None) -> None:
        self._metrics = metrics
        self._request = request
        self._record = record
        self._rule = rule or request.rule.name
        self._open = request.rows  # votes asked for and not yet accounted for

    def __enter__(self) -> Self:
        return self

    def settle(self, answer: Answer) -> None:
        """Account for the votes of an answered request."""
        self._record.note_votes(answer.counted)
        # Of a few inputs, which is usual, lists are counted sooner than arrays.
        used, complete = answer.decisions.votes_used.tolist(), answer.counted.complete.tolist()
        inputs, inputs_complete = len(complete), sum(complete)
        saved = self._request.votes * inputs_complete - sum(compress(used, complete))
        abstentions = sum(answer.decisions.abstain.tolist())
        self.close(sum(used), saved, answer.counted.queue_s, inputs, abstentions, inputs - inputs_complete)

    def close(self, cast: int, saved: int, queue_s: float, inputs: int, abstentions: int, incomplete: int) -> None:
        """Account for an answer: votes `cast` and `saved`, the others dropped at the deadline; and its `inputs`."""
        self._account(cast, saved, "deadline")
        children = self._metrics.of_session(self._request.session)
        children.queue.observe(queue_s)
        children.predictions.inc(inputs)
        if abstentions:
            children.abstentions.inc(abstentions)
        if incomplete:
            children.incomplete.inc(incomplete)

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._open:
            self._account(0, 0, DROPPED_BY.get(self._record.code(error), "failed"))

    def _account(self, cast: int, saved: int, reason: str) -> None:
        """Count votes as cast and saved, and the others as dropped for this reason."""
        votes = self._metrics.of_rule(self._request.session, self._rule)
        votes.votes_asked.inc(self._open)
        votes.votes_cast.inc(cast)
        self._metrics.count_votes_of(self._record.caller, cast)
        if saved:
            votes.votes_saved.inc(saved)
        if dropped := self._open - cast - saved:
            self._metrics.of_session(self._request.session).votes_dropped[reason].inc(dropped)
        self._open = 0


def _code(error: BaseException | None) -> str:
    if error is None:
        return OK
    if isinstance(error, ServiceError):
        return error.code
    left = isinstance(error, (asyncio.CancelledError, ClientDisconnect))
    return ClientLeftError.code if left else "internal_error"
