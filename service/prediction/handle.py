"""The steps of a prediction, once for all protocols: look up, read, prepare, queue, answer, account."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
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
from noisevote.service.prediction.options import RETURNS, PredictionRequest, Returns
from noisevote.service.prediction.policy import Policies, Policy
from noisevote.service.prediction.prepare import Prepared, prepare
from noisevote.service.prediction.quotas import QuotaBook
from noisevote.service.prediction.reader import ParseBody, Question
from noisevote.service.prediction.visit import Visit
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.settings import Settings

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


class Prediction:
    """An accepted request and its votes."""

    def __init__(
        self, prepared: Prepared, ticket: VoteTicket, record: RequestRecord, account: VoteAccount, visit: Visit
    ) -> None:
        self.prepared = prepared
        self._visit = visit
        self._ticket = ticket
        self._record = record
        self._account = account

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
        answer = answer_of(self.prepared, await self._ticket.answer())
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
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._settings = settings
        self._quotas = quotas
        self._long_bodies = long_bodies
        self._policies = policies
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
        with RequestRecord(self._metrics) as record:
            policy = self._policies.of(model)
            if policy is not None:
                version = policy.version("predict", version, stream=anytime)
            served = self._registry().version(model, version)
            record.session = visit.session = SessionKey(served.manifest.name, served.manifest.version, "")
            judge = partial(judged, policy, returns)
            prepared = await self._prepare(await read(), parse, judge, served, anytime)
            request = prepared.vote_request
            record.session = visit.session = request.session
            visit.inputs, visit.votes = len(request.inputs), request.rows
            self._quotas.check(visit.caller, request.rows, request.priority)
            with (
                self._dispatcher.accepted(request, prepared.options.deadline_ms) as ticket,
                self._quotas.queued(visit.caller, request.rows),
                VoteAccount(self._metrics, request, record) as account,
            ):
                yield Prediction(prepared, ticket, record, account, visit)

    async def _prepare(
        self, body: bytes, parse: ParseBody, judge: Judge, served: ServedVersion, anytime: bool
    ) -> Prepared:
        def prepared() -> Prepared:
            return prepare(judge(parse(body, self._settings)), served, self._settings, anytime=anytime)

        if len(body) <= THREADED_BODY_BYTES:
            return prepared()
        if len(body) <= LONG_BODY_BYTES:
            async with self._one_at_a_time:
                return await asyncio.to_thread(prepared)
        question = Question(parse, served.manifest.input, self._settings)
        asked = judge(await self._long_bodies.read(question, body))
        return prepare(asked, served, self._settings, anytime=anytime)


def judged(policy: Policy | None, returns: Collection[Returns], asked: PredictionRequest) -> PredictionRequest:
    """What a request asks for, as far as the model's policy allows it and the protocol can show it.

    Raises:
        PolicyError: the policy does not allow it, or shows less than the least that the protocol can show.
    """
    allowed = asked if policy is None else policy.prediction(asked)
    most = allowed.options.returns
    shown = [each for each in RETURNS[: RETURNS.index(most) + 1] if each in returns]
    if not shown:
        raise PolicyError("return", f"{most!r} is all that may be shown; this protocol shows more")
    return allowed if shown[-1] == most else replace(allowed, options=replace(allowed.options, returns=shown[-1]))
