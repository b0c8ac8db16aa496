"""The steps of a prediction, once for all protocols: look up, read, prepare, queue, answer, account."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.backends.backend import VoteDispatcher
from noisevote.service.errors import PolicyError, ServiceError
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import ModelRegistry, ServedVersion
from noisevote.service.prediction.accounting import RequestRecord, VoteAccount
from noisevote.service.prediction.answer import Answer, answer_of
from noisevote.service.prediction.long_bodies import LongBodyReader
from noisevote.service.prediction.options import RETURNS, PredictionRequest, Returns, VoteOptions
from noisevote.service.prediction.policy import Policies, Policy
from noisevote.service.prediction.prepare import Prepared, prepare
from noisevote.service.prediction.quotas import QuotaBook
from noisevote.service.prediction.reader import ParseBody, Question
from noisevote.service.prediction.visit import Visit
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.settings import Settings
from noisevote.service.traces import NO_TRACES, Traces

# Longer bodies are decoded on another thread, one at a time: unpacking images leaves the event loop free meanwhile.
THREADED_BODY_BYTES: Final = 64 * 1024
# Longer bodies are read by another process: parsing one would keep the interpreter for more than about 20 ms.
LONG_BODY_BYTES: Final = 256 * 1024

# What a protocol shows that knows of nothing less.
EVERYTHING: Final[tuple[Returns, ...]] = ("probabilities",)

# Receives the body of a request; raises `ServiceError`.
ReadBody = Callable[[], Awaitable[bytes]]
# Refuses or changes what a request asks for; raises `ServiceError`.
Judge = Callable[[PredictionRequest], PredictionRequest]


@dataclass(frozen=True)
class Reading:
    """How a protocol reads a request.

    Attributes:
        read: receives its body.
        parse: says what that asks for.
        parsed: how many bytes of it have to be parsed; others are taken as they are, which is quick.
    """

    read: ReadBody
    parse: ParseBody
    parsed: Callable[[bytes], int] = len


class Prediction:
    """An accepted request and its votes."""

    def __init__(
        self,
        prepared: Prepared,
        ticket: VoteTicket,
        record: RequestRecord,
        account: VoteAccount,
        visit: Visit,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.prepared = prepared
        self._visit = visit
        self._ticket = ticket
        self._record = record
        self._account = account
        self._traces = traces

    @property
    def over(self) -> bool:
        """No more votes will come."""
        return self._ticket.over

    def abandon(self) -> None:
        """Drop what is not yet computed: the client has left."""
        self._ticket.abandon()

    def tell(self, error: ServiceError) -> None:
        """Note that the client is told of this error, which is then not raised."""
        self._record.error = error

    async def answer(self) -> Answer:
        """Wait for the last vote; see `VoteTicket.answer` for errors."""
        counted = await self._ticket.answer()
        began = time.perf_counter()
        answer = answer_of(self.prepared, counted)
        self._traces.decided(self.prepared.vote_request, counted, began, time.perf_counter())
        self._account.settle(answer)
        self._visit.queue_s = answer.counted.queue_s
        return answer

    async def progress(self) -> AsyncIterator[CountedVotes]:
        """The votes so far, whenever some were counted, until the last one; errors are those of `answer`."""
        async for counted in self._ticket.standings():
            if not counted.ended:
                yield counted


class Predictor:
    """Handles requests to predict, whatever protocol they came by.

    Args:
        registry: what is served now; raises `NotReadyError` as long as nothing is.
        dispatcher: runs accepted requests.
        metrics: is told what becomes of them.
        settings: what is allowed.
        quotas: what each caller may have at most.
        long_bodies: reads those that would take long.
        policies: what of it operators allow for some models.
        traces: are told how requests spend their time.
    """

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        dispatcher: VoteDispatcher,
        metrics: Metrics,
        settings: Settings,
        quotas: QuotaBook,
        long_bodies: LongBodyReader,
        policies: Policies,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._settings = settings
        self._quotas = quotas
        self._long_bodies = long_bodies
        self._policies = policies
        self._traces = traces
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def accept(
        self,
        model: str,
        version: str | None,
        read: ReadBody,
        parse: ParseBody,
        visit: Visit,
        *,
        anytime: bool = False,
        returns: Collection[Returns] = EVERYTHING,
    ) -> AsyncIterator[Prediction]:
        """Read, check and queue a request. Leaving drops what is not yet computed, and accounts for every vote.

        Args:
            model: name of the model.
            version: its version; None: the newest.
            read: reads the body.
            parse: says what the body asks for.
            visit: who asks; is told what for.
            anytime: the answer will be looked at before it is complete, as a stream's is.
            returns: what the protocol can keep to of `VoteOptions.returns`.

        Raises:
            ServiceError: it cannot be used, or there is no room for it.
        """
        with RequestRecord(self._metrics, visit) as record:
            checked = self._checked(record, model, version, Reading(read, parse), visit, anytime, returns)
            (prepared,) = await checked
            with self._queued(prepared, record, visit) as prediction:
                yield prediction

    @asynccontextmanager
    async def accept_runs(
        self, model: str, version: str | None, reading: Reading, visit: Visit, returns: Collection[Returns]
    ) -> AsyncIterator[list[Prediction]]:
        """The same for a request whose inputs may differ in their options: a prediction for each of its runs.

        All are queued, or none.
        """
        with RequestRecord(self._metrics, visit) as record, ExitStack() as queued:
            runs = await self._checked(record, model, version, reading, visit, False, returns)
            if len(runs) > 1:
                rows = sum(prepared.vote_request.rows for prepared in runs)
                self._dispatcher.refuse_if_full(rows, runs[0].options.deadline_ms)
            yield [queued.enter_context(self._queued(prepared, record, visit)) for prepared in runs]

    async def _checked(
        self,
        record: RequestRecord,
        model: str,
        version: str | None,
        reading: Reading,
        visit: Visit,
        anytime: bool,
        returns: Collection[Returns],
    ) -> tuple[Prepared, ...]:
        """Read and check a request, and note what it is about; one result for each of its runs."""
        policy = self._policies.of(model)
        if policy is not None:
            version = policy.version("predict", version, stream=anytime)
        served = self._registry().version(model, version)
        record.session = visit.session = SessionKey(served.manifest.name, served.manifest.version, "")
        judge = partial(judged, policy, returns)
        runs = await self._prepare(reading, await reading.read(), judge, served, anytime)
        requests = [prepared.vote_request for prepared in runs]
        record.session = visit.session = requests[0].session
        visit.inputs = sum([len(request.inputs) for request in requests])
        visit.votes = sum([request.rows for request in requests])
        self._quotas.check(visit.caller, visit.votes, max([request.priority for request in requests]))
        record.accept()
        return runs

    @contextmanager
    def _queued(self, prepared: Prepared, record: RequestRecord, visit: Visit) -> Iterator[Prediction]:
        request = prepared.vote_request
        with (
            self._dispatcher.accepted(request, prepared.options.deadline_ms) as ticket,
            self._quotas.queued(visit.caller, request.rows),
            VoteAccount(self._metrics, request, record) as account,
        ):
            self._traces.accepted(request)
            yield Prediction(prepared, ticket, record, account, visit, self._traces)

    async def _prepare(
        self, reading: Reading, body: bytes, judge: Judge, served: ServedVersion, anytime: bool
    ) -> tuple[Prepared, ...]:
        def prepared() -> tuple[Prepared, ...]:
            return prepare(judge(reading.parse(body, self._settings)), served, self._settings, anytime=anytime)

        if len(body) <= THREADED_BODY_BYTES:
            return prepared()
        if reading.parsed(body) <= LONG_BODY_BYTES:
            async with self._one_at_a_time:
                return await asyncio.to_thread(prepared)
        question = Question(reading.parse, served.manifest.input, self._settings)
        asked = judge(await self._long_bodies.read(question, body))
        return prepare(asked, served, self._settings, anytime=anytime)


def judged(policy: Policy | None, returns: Collection[Returns], asked: PredictionRequest) -> PredictionRequest:
    """What a request asks for, as far as the model's policy allows it and the protocol can show it.

    Raises:
        PolicyError: the policy does not allow it, or shows less than the least that the protocol can show.
    """
    allowed = asked if policy is None else policy.prediction(asked)
    if all(run.options.returns in returns for run in allowed.runs):
        return allowed
    runs = tuple(replace(run, options=_shown(run.options, returns)) for run in allowed.runs)
    return replace(allowed, options=runs[0].options, varied=runs if allowed.varied else ())


def _shown(options: VoteOptions, returns: Collection[Returns]) -> VoteOptions:
    most = options.returns
    shown = [each for each in RETURNS[: RETURNS.index(most) + 1] if each in returns]
    if not shown:
        raise PolicyError("return", f"{most!r} is all that may be shown; this protocol shows more")
    return options if shown[-1] == most else replace(options, returns=shown[-1])
