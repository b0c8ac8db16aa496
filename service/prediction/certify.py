"""One request for certificates: read, checked, its votes cast in slices, accounted for. Beside `handle`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from noisevote.engine.certificate_seed import certificate_seed
from noisevote.engine.session_key import SessionKey
from noisevote.service.backends.backend import VoteDispatcher
from noisevote.service.errors import DrainingError, ServiceError
from noisevote.service.metrics import Metrics, certify_label
from noisevote.service.models.registry import ModelRegistry, ServedVersion
from noisevote.service.prediction.accounting import RequestRecord, VoteAccount
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.prediction.certify_prepare import PreparedCertificates, prepare_certificates
from noisevote.service.prediction.handle import THREADED_BODY_BYTES
from noisevote.service.prediction.policy import Policies, Policy
from noisevote.service.prediction.quotas import QuotaBook
from noisevote.service.prediction.slices import MOST_WAITING, Slices
from noisevote.service.prediction.visit import Visit
from noisevote.service.settings import Settings
from noisevote.service.traces import NO_TRACES, Traces
from noisevote.voting.certification import Certificate, CertificateEnd, certificate
from noisevote.voting.decision import leaders

CertificateStop = CertificateEnd | Literal["deadline"]
# Says what a body asks for under these settings; raises `ServiceError`.
ParseCertify = Callable[[bytes, Settings], CertifyRequest]


@dataclass(frozen=True)
class InputCertificate:
    """How the votes on one input stand, or ended. `index` is the selected class, None as long as none is.

    `stopped_by` is None while the voting goes on.
    """

    input: int
    seed: int
    index: int | None
    found: Certificate
    stopped_by: CertificateStop | None


class Certification:
    """An accepted request for certificates. Inputs are voted on one after another, so that it waits in line as one."""

    def __init__(
        self, prepared: PreparedCertificates, slices: Slices, record: RequestRecord, traces: Traces = NO_TRACES
    ) -> None:
        self.prepared = prepared
        self.ended: list[InputCertificate] = []
        self._slices = slices
        self._record = record
        self._traces = traces

    @property
    def over(self) -> bool:
        """Every input has its answer."""
        return len(self.ended) == self.prepared.asked.inputs

    @property
    def queue_s(self) -> float:
        """Seconds from acceptance to the first batch."""
        return self._slices.queue_s

    def abandon(self) -> None:
        """Drop what is not yet computed: the client has left."""
        self._slices.abandon()

    def tell(self, error: ServiceError) -> None:
        """Note that the client is told of this error, which is then not raised."""
        self._record.error = error

    async def certificates(self) -> list[InputCertificate]:
        """All of them, in the order of the inputs; see `Slices.cast` for errors."""
        async for _ in self.progress():
            pass
        return self.ended

    async def progress(self) -> AsyncIterator[InputCertificate]:
        """How an input stands after each slice of votes, and how it ended; errors are those of `certificates`."""
        for number in range(self.prepared.asked.inputs):
            async for standing in self._certify(number):
                if standing.stopped_by is not None:
                    self.ended.append(standing)
                yield standing

    async def _certify(self, number: int) -> AsyncIterator[InputCertificate]:
        prepared, n0 = self.prepared, self.prepared.asked.n0
        request, rule = prepared.whole, prepared.rule
        seed = certificate_seed(prepared.variant.sha256, request.inputs[number], prepared.nonce)

        def standing(index: int | None, count: int, trials: int, end: CertificateStop | None) -> InputCertificate:
            found = certificate(rule, prepared.sigma, prepared.asked.radius, count, trials)
            return InputCertificate(number, seed, index, found, end)

        selection = await self._slices.cast(number, seed, 0, n0)
        if selection is None:
            yield standing(None, 0, 0, "deadline")
            return
        index = int(leaders(selection)[0])
        count = trials = 0
        while more := rule.more(count, trials):
            votes = self._slices.share_of(more)
            tally = await self._slices.cast(number, seed, n0 + trials, votes)
            if tally is None:
                yield standing(index, count, trials, "deadline")
                return
            count, trials = count + int(tally.histogram[0, index]), trials + votes
            if rule.met(count, trials) is None:
                yield standing(index, count, trials, None)
        began = time.perf_counter()
        found = standing(index, count, trials, rule.met(count, trials))
        self._traces.certified(request, n0 + trials, began, time.perf_counter())
        yield found


class Certifier:
    """Handles requests for certificates, whatever protocol they came by; see `Predictor` for what it is made of."""

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        dispatcher: VoteDispatcher,
        metrics: Metrics,
        settings: Settings,
        quotas: QuotaBook,
        policies: Policies,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._settings = settings
        self._quotas = quotas
        self._policies = policies
        self._traces = traces
        self._line = asyncio.Semaphore(MOST_WAITING)
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def accept(
        self,
        model: str,
        version: str | None,
        read: Callable[[], Awaitable[bytes]],
        parse: ParseCertify,
        visit: Visit,
        *,
        stream: bool = False,
    ) -> AsyncIterator[Certification]:
        """Read and check a request. Leaving drops what is not yet computed, and accounts for every vote.

        Args:
            model: name of the model.
            version: its version; None: the newest.
            read: reads the body.
            parse: says what the body asks for.
            visit: who asks; is told what for.
            stream: how the votes stand will be told meanwhile.

        Raises:
            ServiceError: it cannot be used.
        """
        with RequestRecord(self._metrics, visit) as record:
            policy = self._policies.of(model)
            if policy is not None:
                version = policy.version("certify", version, stream=stream)
            served = self._registry().version(model, version)
            record.session = visit.session = SessionKey(served.manifest.name, served.manifest.version, "")
            prepared = await self._prepare(await read(), _under(policy, parse), served)
            whole = prepared.whole
            record.session = visit.session = whole.session
            visit.inputs, visit.votes = len(whole.inputs), whole.rows
            self._quotas.check(visit.caller, whole.rows, whole.priority)
            self._refuse_at_the_door(prepared)
            self._traces.accepted(whole, certify_label(prepared.rule.name))
            slices = Slices(
                whole, self._dispatcher, prepared.asked.deadline_ms, self._metrics.clock, self._line, self._traces
            )
            with (
                self._quotas.queued(visit.caller, whole.rows),
                VoteAccount(self._metrics, whole, record, certify_label(prepared.rule.name)) as account,
            ):
                certification = Certification(prepared, slices, record, self._traces)
                yield certification
                if certification.over:
                    _settle(account, certification, slices)

    def _refuse_at_the_door(self, prepared: PreparedCertificates) -> None:
        """Refuse by status what the first slice would be refused for: a stream has sent its status by then."""
        if self._dispatcher.draining:
            raise DrainingError("draining: the server finishes what it has accepted, and ends")
        self._dispatcher.refuse_if_full(Slices.share_of(prepared.asked.n0), prepared.asked.deadline_ms)

    async def _prepare(self, body: bytes, parse: ParseCertify, served: ServedVersion) -> PreparedCertificates:
        def prepared() -> PreparedCertificates:
            return prepare_certificates(parse(body, self._settings), served, self._settings)

        if len(body) <= THREADED_BODY_BYTES:
            return prepared()
        async with self._one_at_a_time:
            return await asyncio.to_thread(prepared)


def _under(policy: Policy | None, parse: ParseCertify) -> ParseCertify:
    """What a body asks for, as far as the model's policy allows it."""
    return parse if policy is None else lambda body, settings: policy.certificates(parse(body, settings))


def _settle(account: VoteAccount, certification: Certification, slices: Slices) -> None:
    """Account for the votes: what slices brought is cast; what rules did not want is saved; the rest is dropped."""
    asked = certification.prepared.asked
    in_time = [each for each in certification.ended if each.stopped_by != "deadline"]
    account.close(
        cast=slices.counted,
        saved=sum(asked.n - each.found.trials for each in in_time),
        queue_s=slices.queue_s,
        inputs=asked.inputs,
        abstentions=sum(each.found.abstain for each in certification.ended),
        incomplete=asked.inputs - len(in_time),
    )
