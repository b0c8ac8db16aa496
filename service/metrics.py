"""The instruments behind `GET /metrics`.

Label values are names from the catalogue, from the code, and of keys that were configured; nothing that a client sends
becomes one, so their number is bounded. Label children are looked up once and kept, because a request would pay for
every look-up. Each application has a registry of its own. All but reading it belongs to the
event loop.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector
from prometheus_client import disable_created_metrics as omit_creation_times
from prometheus_client.exposition import choose_encoder

from noisevote.engine.session_key import SessionKey
from noisevote.service.callers import ANYBODY, Caller
from noisevote.service.errors import QueueFullError
from noisevote.service.instruments import Count, Counter, Histogram, Observations
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.workers import BatchResult
from noisevote.service.statistics import Statistics
from noisevote.service.triton_metrics import TritonNames
from noisevote.voting.certification import CERTIFICATE_RULES, CertificateRuleName

OK: Final = "ok"
REASONS: Final = ("deadline", "cancelled", "failed")

# A connection that is closed for a new one, of which no error tells.
CONNECTION_LIMIT: Final = "connection_limit"

SESSION: Final = ("model", "version", "variant")
REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCH_SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)
BATCH_ROWS: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)

# A creation time for every series would double their number. The library's only switch is one for the
# whole process; nothing else in it uses the library.
omit_creation_times()  # type: ignore[no-untyped-call]  # the library left this one untyped


LOAD_GAUGES: Final = {
    "requests": ("queue_requests", "Requests accepted and not yet over."),
    "rows": ("queue_rows", "Votes asked for by them and not yet counted."),
    "rows_limit": ("queue_rows_limit", "Most votes that may wait."),
    "bytes": ("queue_bytes", "Bytes of their decoded inputs and tallies."),
    "bytes_limit": ("queue_bytes_limit", "Most bytes that may wait."),
    "workers": ("lanes", "Batches that can be computed at once."),
    "workers_busy": ("lanes_busy", "Batches that are being computed."),
}


@dataclass(frozen=True)
class OfSession:
    """Children of one session."""

    duration: Observations
    queue: Observations
    predictions: Count
    abstentions: Count
    incomplete: Count
    batch_rows: Observations
    batch_duration: Observations
    batches_failed: Count
    votes_dropped: dict[str, Count]


@dataclass(frozen=True)
class OfRule:
    """Children of one session under one stopping rule."""

    votes_asked: Count
    votes_cast: Count
    votes_saved: Count


def certify_label(rule: CertificateRuleName) -> str:
    """What the votes of certificates under a rule are counted as, beside those of stopping rules."""
    return f"certify_{rule}"


class Metrics:
    """All instruments of one application. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.statistics = Statistics()
        self._registry = CollectorRegistry()
        self._sessions: dict[SessionKey, OfSession] = {}
        self._rules: dict[tuple[SessionKey, str], OfRule] = {}
        self._codes: dict[tuple[SessionKey, str], Count] = {}
        self._request_instruments()
        self._vote_instruments()
        self._key_instruments()
        self._batch_instruments()
        self._process_instruments()

    def describe(self, version: str, engine: str) -> None:
        """Set the version and the engine that run."""
        self._build.info({"version": version, "engine": engine})

    def declare(self, sessions: Iterable[SessionKey], refusals: int, certifying: Iterable[SessionKey] = ()) -> None:
        """Show the sessions that are served, and the number of refusals.

        Their requests count from zero, so that rates do not begin at the first increment, and so do the votes of
        certificates where a session is `certifying`, which few are. All else of a session, which is a hundred lines, is
        shown from its first request on: most of many variants are never asked for.
        """
        self._refusals.set(refusals)
        for session in sessions:
            self.requests(session._replace(variant=""), QueueFullError.code)  # refused before its variant is known
            self.requests(session, OK)
        for session in certifying:
            for rule in CERTIFICATE_RULES:
                self.of_rule(session, certify_label(rule))

    def refuse(self, code: str, caller: Caller = ANYBODY) -> None:
        """Count what was refused before it was known what it asks for, by the error's code."""
        self.count_request_of(caller, code)
        if code not in self._refused_by:
            self._refused_by[code] = self._refused.labels(code)
        self._refused_by[code].inc()

    def count_request_of(self, caller: Caller, code: str) -> None:
        """Count a request of the holder of a key, by what became of it; of those without a key nothing tells more."""
        if caller is not ANYBODY:
            key = (caller.name, code)
            if key not in self._requests_of:
                self._requests_of[key] = self._key_requests.labels(*key)
            self._requests_of[key].inc()

    def count_votes_of(self, caller: Caller, votes: int) -> None:
        """Count votes in answers to the holder of a key."""
        if caller is not ANYBODY:
            if caller.name not in self._votes_of:
                self._votes_of[caller.name] = self._key_votes.labels(caller.name)
            self._votes_of[caller.name].inc(votes)

    def add_triton_names(self) -> None:
        """Show what Triton has a name for under that name too."""
        shown = (self._requests, self._predictions, self._duration, self._queue, self._batch_duration)
        self._registry.register(TritonNames((*shown, self._load["rows"])))

    def observe_batch(self, result: BatchResult) -> None:
        """Count a batch that the engine has run or failed on."""
        children = self.of_session(result.batch.session)
        children.batch_rows.observe(len(result.batch))
        children.batch_duration.observe(result.seconds)
        if result.failed:
            children.batches_failed.inc()
        else:
            self.statistics.note_batch(result.batch.session, len(result.batch), result.seconds)

    def forget(self, session: SessionKey) -> None:
        """Remove an unloaded session from what is exported, and with it those that differ in nothing but their file."""
        children = (self._duration, self._queue, self._predictions, self._abstentions, self._incomplete)
        batches = (self._batch_rows, self._batch_duration, self._batches_failed)
        labels = session.labels
        for known in [known for known in self._sessions if known.labels == labels]:
            del self._sessions[known]
            for instrument in (*children, *batches):
                instrument.remove(*labels)
            for reason in REASONS:
                self._votes_dropped.remove(*labels, reason)
        for known, rule in [key for key in self._rules if key[0].labels == labels]:
            del self._rules[known, rule]
            for counter in (self._votes_asked, self._votes_cast, self._votes_saved):
                counter.remove(*labels, rule)
        for known, code in [key for key in self._codes if key[0].labels == labels]:
            del self._codes[known, code]
            self._requests.remove(*labels, code)

    def show(self, load: Load, *, ready: bool) -> None:
        """Set the gauges to this moment; to be called before `exposition`."""
        self._ready.set(ready)
        for field, value in load._asdict().items():
            self._load[field].set(value)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything as text, and its content type: OpenMetrics if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def of_session(self, session: SessionKey) -> OfSession:
        """The children of a session."""
        if session not in self._sessions:
            self._sessions[session] = OfSession(
                duration=self._duration.labels(*session.labels),
                queue=self._queue.labels(*session.labels),
                predictions=self._predictions.labels(*session.labels),
                abstentions=self._abstentions.labels(*session.labels),
                incomplete=self._incomplete.labels(*session.labels),
                batch_rows=self._batch_rows.labels(*session.labels),
                batch_duration=self._batch_duration.labels(*session.labels),
                batches_failed=self._batches_failed.labels(*session.labels),
                votes_dropped={reason: self._votes_dropped.labels(*session.labels, reason) for reason in REASONS},
            )
        return self._sessions[session]

    def of_rule(self, session: SessionKey, rule: str) -> OfRule:
        """The children of a session under a stopping rule."""
        key = (session, rule)
        if key not in self._rules:
            counters = (self._votes_asked, self._votes_cast, self._votes_saved)
            self._rules[key] = OfRule(*(counter.labels(*session.labels, rule) for counter in counters))
        return self._rules[key]

    def requests(self, session: SessionKey, code: str) -> Count:
        """The counter of a session's requests that ended with this code."""
        key = (session, code)
        if key not in self._codes:
            self._codes[key] = self._requests.labels(*session.labels, code)
        return self._codes[key]

    def _request_instruments(self) -> None:
        requests = "Prediction requests, by the error's code or ok; labels are empty where they were not valid."
        duration = "From a request's arrival to its answer, of answered requests."
        queue = "From a request's acceptance to its first batch, of answered requests."
        self._requests = self._counter("requests", requests, (*SESSION, "code"))
        refused = (
            "Requests and connections refused at the door, by the error's code: keys, origins, quotas, limits, HTTP."
        )
        self._refused = self._counter("refused", refused, ("code",))
        self._refused_by = {CONNECTION_LIMIT: self._refused.labels(CONNECTION_LIMIT)}
        self._duration = self._histogram("request_duration_seconds", duration, REQUEST_SECONDS)
        self._queue = self._histogram("queue_duration_seconds", queue, REQUEST_SECONDS)
        self._predictions = self._counter("predictions", "Inputs answered.")
        self._abstentions = self._counter("abstentions", "Inputs answered with abstain.")
        self._incomplete = self._counter("incomplete_predictions", "Inputs answered at the deadline, votes missing.")

    def _vote_instruments(self) -> None:
        dropped = "Votes asked for that are in no answer, by what kept them out."
        rule, reason = (*SESSION, "rule"), (*SESSION, "reason")
        self._votes_asked = self._counter("votes_asked", "Votes asked for, of accepted requests that are over.", rule)
        self._votes_cast = self._counter("votes_cast", "Votes counted in answers.", rule)
        self._votes_saved = self._counter("votes_saved", "Votes that the stopping rule made unnecessary.", rule)
        self._votes_dropped = self._counter("votes_dropped", dropped, reason)

    def _key_instruments(self) -> None:
        requests = "Requests for votes by a key's holder, and those refused at the door, by the error's code or ok."
        self._key_requests = self._counter("key_requests", requests, ("key", "code"))
        self._key_votes = self._counter("key_votes", "Votes counted in answers to a key's holder.", ("key",))
        self._requests_of: dict[tuple[str, str], Count] = {}
        self._votes_of: dict[str, Count] = {}

    def _batch_instruments(self) -> None:
        duration = "From handing a batch to the engine until its votes are counted."
        self._batch_rows = self._histogram("batch_rows", "Rows of a batch.", BATCH_ROWS)
        self._batch_duration = self._histogram("batch_duration_seconds", duration, BATCH_SECONDS)
        self._batches_failed = self._counter("batches_failed", "Batches that the engine failed on.")

    def _process_instruments(self) -> None:
        self._load = {field: self._gauge(name, text) for field, (name, text) in LOAD_GAUGES.items()}
        self._ready = self._gauge("ready", "1 while requests are accepted.")
        self._refusals = self._gauge("refusals", "Published versions and variants that are refused.")
        self._build = Info("noisevote_build", "What runs.", registry=self._registry)
        ProcessCollector(registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"noisevote_{name}", text, registry=self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = SESSION) -> Counter:
        return Counter(f"noisevote_{name}", text, labels, self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"noisevote_{name}", text, SESSION, buckets, self._registry)
