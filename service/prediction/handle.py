"""The steps of a prediction, once for all protocols: look up, read, prepare, queue, answer, account."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.backends.backend import VoteDispatcher
from noisevote.service.errors import ForbiddenError, ServiceError
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import ModelRegistry, ServedVersion
from noisevote.service.prediction.accounting import RequestRecord, VoteAccount
from noisevote.service.prediction.answer import Answer, answer_of
from noisevote.service.prediction.options import PredictionRequest, Returns
from noisevote.service.prediction.policy import Policies, Policy
from noisevote.service.prediction.prepare import Prepared, prepare
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.settings import Settings

# Longer bodies are decoded on another thread: unpacking images leaves the event loop free meanwhile.
LONG_BODY_BYTES: Final = 64 * 1024

# What a protocol shows that knows of nothing less.
EVERYTHING: Final[tuple[Returns, ...]] = ("probabilities",)

# Reads the body of a request, and says what a body asks for; both raise `ServiceError`.
ReadBody = Callable[[], Awaitable[bytes]]
ParseBody = Callable[[bytes], PredictionRequest]


class Prediction:
    """An accepted request and its votes."""

    def __init__(self, prepared: Prepared, ticket: VoteTicket, record: RequestRecord, account: VoteAccount) -> None:
        self.prepared = prepared
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
        policies: what of it operators allow for some models.
    """

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        dispatcher: VoteDispatcher,
        metrics: Metrics,
        settings: Settings,
        policies: Policies,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._settings = settings
        self._policies = policies

    @asynccontextmanager
    async def accept(
        self,
        model: str,
        version: str | None,
        read: ReadBody,
        parse: ParseBody,
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
            record.session = SessionKey(served.manifest.name, served.manifest.version, "")
            prepared = await self._prepare(await read(), _under(policy, parse, returns), served, anytime)
            request = prepared.vote_request
            record.session = request.session
            with (
                self._dispatcher.accepted(request, prepared.options.deadline_ms) as ticket,
                VoteAccount(self._metrics, request, record) as account,
            ):
                yield Prediction(prepared, ticket, record, account)

    async def _prepare(self, body: bytes, parse: ParseBody, served: ServedVersion, anytime: bool) -> Prepared:
        def prepared() -> Prepared:
            return prepare(parse(body), served, self._settings, anytime=anytime)

        return await asyncio.to_thread(prepared) if len(body) > LONG_BODY_BYTES else prepared()


def _under(policy: Policy | None, parse: ParseBody, returns: Collection[Returns]) -> ParseBody:
    """What a body asks for, as far as the model's policy and the protocol allow it."""

    def judged(body: bytes) -> PredictionRequest:
        asked = parse(body) if policy is None else policy.prediction(parse(body))
        if asked.options.returns not in returns:
            raise ForbiddenError(
                "return", f"{asked.options.returns!r} is all that may be shown; this protocol shows more"
            )
        return asked

    return judged
