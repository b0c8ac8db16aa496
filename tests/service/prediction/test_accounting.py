"""What is counted of requests and their votes."""

import asyncio
from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from noisevote.service.errors import (
    ClientLeftError,
    DeadlineExceededError,
    DrainingError,
    EngineError,
    NotReadyError,
    QueueFullError,
)
from noisevote.service.metrics import Metrics
from noisevote.service.prediction.accounting import RequestRecord, VoteAccount
from noisevote.service.prediction.visit import Visit
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.workers import BatchResult
from noisevote.voting.stopping import Exact
from tests.support.scraping import KEY, answered, request, shown

IDLE = Load(0, 0, 0, 0, 0, 0, 0)


@given(
    votes=st.integers(1, 50),
    inputs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=8),
)
def test_every_vote_asked_for_is_cast_saved_or_dropped(votes: int, inputs: list[tuple[float, bool]]) -> None:
    """Each input's unused votes are saved if it is complete, else dropped; counted one by one they add up the same."""
    used = [max(1, int(share * votes)) for share, _ in inputs]
    complete = [done for _, done in inputs]
    metrics = Metrics()
    asked = request(len(inputs), votes, Exact())
    with RequestRecord(metrics) as record, VoteAccount(metrics, asked, record) as account:
        account.settle(answered(used, complete))
    after = shown(metrics)
    assert after.sum("votes_asked_total") == votes * len(inputs)
    assert after.sum("votes_cast_total") == sum(used)
    assert after.sum("votes_saved_total") == sum(votes - n for n, done in zip(used, complete, strict=True) if done)
    assert after.sum("votes_dropped_total", reason="deadline") == sum(
        votes - n for n, done in zip(used, complete, strict=True) if not done
    )
    assert after.sum("incomplete_predictions_total") == complete.count(False)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (DeadlineExceededError(""), "deadline_exceeded", "deadline"),
        (asyncio.CancelledError(), "client_left", "cancelled"),
        (ClientDisconnect(), "client_left", "cancelled"),
        (ClientLeftError(""), "client_left", "cancelled"),
        (DrainingError(""), "draining", "cancelled"),
        (DrainingError(""), "draining", None),
        (EngineError(""), "engine_error", "failed"),
        (ZeroDivisionError(), "internal_error", "failed"),
        (QueueFullError(""), "queue_full", None),
        (NotReadyError(""), "not_ready", None),
    ],
)
def test_a_request_that_ends_in_an_error_drops_what_it_asked_for(
    error: BaseException, code: str, reason: str | None
) -> None:
    """For the error's reason, unless it was never accepted; it has no duration."""
    metrics = Metrics()
    metrics.declare([KEY], 0)
    with (
        suppress(type(error)),
        RequestRecord(metrics) as record,
        nullcontext() if reason is None else VoteAccount(metrics, request(2, 10), record),
    ):
        raise error
    after = shown(metrics)
    assert after.sum("requests_total", code=code) == after.sum("requests_total") == 1
    dropped = {sample.labels["reason"]: sample.value for sample in after.of("votes_dropped_total") if sample.value}
    assert dropped == ({} if reason is None else {reason: 20})
    assert after.total("votes_asked_total") == (0 if reason is None else 20)
    assert after.total("request_duration_seconds_count") == 0


def test_an_error_after_the_answer_was_counted_drops_nothing() -> None:
    """Its votes are accounted for once."""
    metrics = Metrics()
    with (
        suppress(ZeroDivisionError),
        RequestRecord(metrics) as record,
        VoteAccount(metrics, request(1, 10), record) as account,
    ):
        account.settle(answered([10], [True]))
        raise ZeroDivisionError
    after = shown(metrics)
    assert (after.sum("votes_asked_total"), after.sum("votes_dropped_total")) == (10, 0)
    assert after.sum("requests_total", code="internal_error") == 1


def test_an_error_that_was_told_as_an_event_is_counted_as_one_that_was_raised() -> None:
    """A stream has begun with status 200, and yet it failed."""
    metrics = Metrics()
    with RequestRecord(metrics) as record, VoteAccount(metrics, request(1, 10), record):
        record.error = EngineError("")
    after = shown(metrics)
    assert after.sum("votes_dropped_total", reason="failed") == after.sum("votes_asked_total") == 10
    assert after.sum("requests_total", code="engine_error") == after.sum("requests_total") == 1
    assert after.sum("request_duration_seconds_count") == 0


def test_durations_are_seconds_of_the_clock() -> None:
    """From entering the record to leaving it, and the queue's as it was told."""
    times = iter([100.0, 100.75])
    metrics = Metrics(lambda: next(times))
    with RequestRecord(metrics) as record, VoteAccount(metrics, request(1, 1), record) as account:
        record.session = KEY
        account.settle(answered([1], [True], abstain=True, queue_s=0.125))
    rows = Share(request(1, 13), np.zeros(13, np.int64), np.arange(13))
    metrics.observe_batch(BatchResult(Batch(KEY, (rows,)), [], began=0.0, seconds=0.003, failed=True))
    metrics.show(IDLE, ready=True)
    after = shown(metrics)
    assert after.sum("request_duration_seconds_sum") == 0.75
    assert after.sum("queue_duration_seconds_sum") == 0.125
    assert after.sum("batch_duration_seconds_sum") == 0.003
    assert after.sum("batch_rows_sum") == 13
    assert after.sum("batch_rows_bucket", le="12.0") == 0
    assert after.sum("batch_rows_bucket", le="16.0") == 1
    assert after.sum("batches_failed_total") == after.sum("abstentions_total") == 1


@given(ticks=st.lists(st.integers(0, 2**20), min_size=5, max_size=5), votes=st.tuples(*[st.integers(0, 2**20)] * 2))
def test_phases_add_up_to_the_whole_exactly(ticks: list[int], votes: tuple[int, int]) -> None:
    """From a request's first bytes until its answer was handed over: waits, reading, votes and answering, each once."""
    waited, read, queue, compute, respond = (tick / 1024 for tick in ticks)
    late, early = (more / 1024 for more in votes)  # within the answering, and its end: nothing is known of them
    began = 16.0 + waited
    times = iter([began + early, began + early + read, began + early + read + queue + compute + late])
    metrics, visit = Metrics(lambda: next(times)), Visit(arrived=16.0, began=began)
    with RequestRecord(metrics, visit) as record, VoteAccount(metrics, request(2, 1), record) as account:
        record.session = KEY
        record.accept()
        found = answered([1, 1], [True, True], queue_s=queue)
        account.settle(replace(found, counted=replace(found.counted, compute_s=compute)))
    sums = metrics.statistics.of(KEY.model, KEY.version)
    assert sums.success.count == 0  # its answer is not sent yet
    visit.end(began + early + read + queue + compute + late + respond)
    assert (sums.success.count, sums.inputs) == (1, 2)
    assert sums.success.seconds == waited + early + read + queue + compute + late + respond
    assert sums.read.seconds == early + read
    assert sums.queue.seconds == waited + queue
    assert sums.compute.seconds == compute
    assert sums.respond.seconds == late + respond


def test_a_request_that_fails_takes_until_its_error_was_handed_over() -> None:
    """The sum of failures has it, and no phase does."""
    times = iter([17.0, 18.0])
    metrics, visit = Metrics(lambda: next(times)), Visit(arrived=16.0, began=17.0)
    with suppress(QueueFullError), RequestRecord(metrics, visit) as record:
        record.session = KEY
        raise QueueFullError("")
    visit.end(20.0)
    sums = metrics.statistics.of(KEY.model, KEY.version)
    assert (sums.failed.count, sums.failed.seconds, sums.success.count, sums.queue.count) == (1, 4.0, 0, 0)


def test_votes_of_certificates_count_from_zero() -> None:
    """Where a session certifies, and only there, both rules' votes are shown before the first request."""
    metrics, other = Metrics(), KEY._replace(variant="w")
    metrics.declare([KEY, other], 0, [KEY])
    counted = shown(metrics)
    for name in ("votes_asked_total", "votes_cast_total", "votes_saved_total"):
        for rule in ("certify_fixed", "certify_anytime"):
            assert counted.sum(name, variant=KEY.variant, rule=rule) == 0
    assert not [one for one in counted.samples if one.labels.get("variant") == "w" and "rule" in one.labels]
