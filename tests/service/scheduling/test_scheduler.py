from collections import Counter
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.service.errors import EngineError, OverflowedError, QueueFullError
from noisevote.service.scheduling.batch import Batch
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, RequestResult, Scheduler
from noisevote.voting.stopping import Confidence, Exact, Fixed
from noisevote.voting.tally import ballots
from tests.support.effort import examples
from tests.support.engines import fake_logits
from tests.support.scheduling import AMPLE, CLASSES, alone, ballots_of, drain, key, request


@dataclass(frozen=True)
class UntilAhead:
    """Stops once a class leads by `lead`; asks for the fewest votes that could bring that about."""

    name = "fixed"  # what metrics would call it
    lead: int

    def met(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.bool_]:  # noqa: ARG002  # the protocol's
        """See `StopRule.met`."""
        ordered = np.sort(histogram, axis=1)
        return np.asarray(ordered[:, -1] - ordered[:, -2] >= self.lead)

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """See `StopRule.more`."""
        ordered = np.sort(histogram, axis=1)
        missing = self.lead - (ordered[:, -1] - ordered[:, -2])
        left = votes - histogram.sum(axis=1)
        return np.asarray(np.clip(missing, 0, left))


RULES = st.one_of(
    st.just(Fixed()),
    st.just(Exact()),
    st.builds(Confidence, st.floats(0.01, 1, exclude_max=True)),
    st.builds(UntilAhead, st.integers(1, 4)),
)


REQUESTS = st.builds(
    request,
    inputs=st.integers(1, 4),
    votes=st.integers(1, 9),
    rule=RULES,
    seed=st.integers(0, 2**64 - 1),
    session=st.integers(0, 1),
    priority=st.integers(1, 3),
    anytime=st.booleans(),
    first_vote=st.sampled_from([0, 1, 1000, 2**31]),
)


class History:
    """Plays a random history against a scheduler, and checks each batch on the way."""

    def __init__(self, scheduler: Scheduler, arrivals: list[VoteRequest], random: Random) -> None:
        self.scheduler = scheduler
        self.arrivals = arrivals
        self.random = random
        self.accepted: list[VoteRequest] = []
        self.dropped: set[VoteRequest] = set()
        self.expired: set[VoteRequest] = set()
        self.under_way: list[Batch] = []
        self.finished: list[RequestResult] = []
        self.rows: Counter[tuple[VoteRequest, int, int]] = Counter()

    def play(self) -> None:
        """Until every request has come and gone."""
        steps = [self.arrive, self.issue, self.issue, self.come_back, self.come_back]
        steps += [self.cancel, self.expire, self.fail]
        while self.arrivals or self.under_way or len(self.scheduler):
            self.random.choice(steps)()

    def arrive(self) -> None:
        """The next request comes."""
        if self.arrivals:
            self.accepted.append(self.arrivals.pop())
            self.scheduler.add(self.accepted[-1])

    def issue(self) -> None:
        """A batch of some size is taken."""
        max_rows = self.random.randint(1, 7)
        batch = self.scheduler.next_batch(max_rows)
        if batch is None:
            return
        assert 1 <= len(batch) <= max_rows
        assert {share.request.session for share in batch.shares} == {batch.session}
        assert len({share.request for share in batch.shares}) == len(batch.shares)
        for share in batch.shares:
            self.rows.update((share.request, i, v) for i, v in zip(share.inputs, share.votes, strict=True))
        self.under_way.append(batch)

    def come_back(self) -> None:
        """Any of the batches under way is done."""
        if self.under_way:
            batch = self.under_way.pop(self.random.randrange(len(self.under_way)))
            self.finished += self.scheduler.absorb(batch, ballots_of(batch))

    def cancel(self) -> None:
        """A client goes away, now and then one that was answered already."""
        if self.random.random() < 0.1 and self.rows:
            victim = self.random.choice(list(self.rows))[0]
            self.scheduler.cancel(victim)
            self.dropped.add(victim)

    def expire(self) -> None:
        """A deadline passes."""
        ended = self.dropped | {finished.request for finished in self.finished}
        waiting = [request for request in self.accepted if request not in ended]
        if waiting and self.random.random() < 0.1:
            self.expired.add(victim := self.random.choice(waiting))
            self.finished.append(self.scheduler.expire(victim))

    def fail(self) -> None:
        """The engine breaks on a batch."""
        if self.under_way and self.random.random() < 0.05:
            self.finished += self.scheduler.fail(self.under_way.pop(), EngineError("injected"))


@settings(deadline=None, max_examples=examples(150))
@given(arrivals=st.lists(REQUESTS, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_any_history_gives_each_request_the_histogram_it_gets_alone(arrivals: list[VoteRequest], seed: int) -> None:
    """Any arrival, batch size, return order, rule, cancellation, failure: nobody's votes change, none is cast twice.

    An expired request has some of the votes that it would have got alone, and all of them where it is complete.
    """
    scheduler = Scheduler(AMPLE)
    history = History(scheduler, list(arrivals), Random(seed))
    history.play()
    assert set(history.rows.values()) <= {1}  # none at all where everything ended before its first batch
    ended = {finished.request: finished for finished in history.finished}
    assert len(ended) == len(history.finished)
    assert set(ended) | history.dropped == set(arrivals)
    for finished in history.finished:
        if finished.error is None:
            histogram, whole = finished.tally.histogram, alone(finished.request)
            np.testing.assert_array_equal(histogram[finished.complete], whole[finished.complete])
            assert (histogram <= whole).all()
            assert finished.complete.tolist() == (histogram.sum(axis=1) == whole.sum(axis=1)).tolist()
            assert finished.complete.all() or finished.request in history.expired
    assert (scheduler.rows, scheduler.bytes) == (0, 0)


def test_waiting_rows_are_known_by_session() -> None:
    """What an estimate of the waiting time needs; all of it is gone in the end."""
    scheduler = Scheduler(AMPLE)
    for seed, (session, budget) in enumerate([(0, 5), (0, 3), (1, 7)]):
        scheduler.add(request(votes=budget, seed=seed, session=session))
    assert scheduler.rows_of == {key(0): 8, key(1): 7}
    drain(scheduler)
    assert not any(scheduler.rows_of.values())


def test_a_rule_is_not_asked_while_votes_are_under_way() -> None:
    """What a rule decides cannot depend on how its votes were cut into batches."""
    scheduler = Scheduler(AMPLE)
    scheduler.add(request(votes=9, rule=UntilAhead(3)))
    batches = [scheduler.next_batch(2), scheduler.next_batch(2)]
    assert [batch and len(batch) for batch in batches] == [2, 1]
    assert scheduler.next_batch(2) is None


@pytest.mark.parametrize(("limits", "what"), [(QueueLimits(10, 10**9), "rows"), (QueueLimits(10**9, 104), "bytes")])
def test_a_full_queue_refuses_and_changes_nothing(limits: QueueLimits, what: str) -> None:
    """The refusal says what is full; room that is freed can be used again."""
    scheduler = Scheduler(limits)
    first = request(inputs=2, votes=5)
    scheduler.add(first)
    with pytest.raises(QueueFullError, match=what):
        scheduler.add(request(inputs=1, votes=1, seed=1))
    assert len(scheduler) == 1
    (finished,) = drain(scheduler)
    assert finished.request is first
    scheduler.add(request(inputs=2, votes=5, seed=2))


def test_rows_leave_the_queue_as_they_are_counted() -> None:
    """Room grows with every batch, and what an early stop leaves over is free at once."""
    scheduler = Scheduler(AMPLE)
    scheduler.add(request(votes=100, rule=UntilAhead(1)))
    assert scheduler.rows == 100
    drain(scheduler)
    assert scheduler.rows == 0


def test_a_cancelled_request_is_dropped_within_a_batch() -> None:
    """Rows under way are ignored when they come back, the rest is never handed out."""
    scheduler = Scheduler(AMPLE)
    gone, stays = request(votes=100, seed=1), request(votes=10, seed=2)
    scheduler.add(gone)
    scheduler.add(stays)
    batch = scheduler.next_batch(8)
    assert batch is not None
    scheduler.cancel(gone)
    scheduler.cancel(gone)
    assert scheduler.absorb(batch, ballots_of(batch)) == []
    (finished,) = drain(scheduler)
    assert finished.request is stays
    assert finished.tally.votes_used.tolist() == [10]


def test_an_engine_error_ends_the_requests_of_its_batch_alone() -> None:
    """The others go on and lose nothing."""
    scheduler = Scheduler(AMPLE)
    broken, whole = request(votes=8, seed=1), request(votes=8, seed=2)
    scheduler.add(broken)
    batch = scheduler.next_batch(4)
    assert batch is not None
    scheduler.add(whole)
    (failed,) = scheduler.fail(batch, EngineError("injected"))
    assert failed.request is broken
    assert isinstance(failed.error, EngineError)
    (finished,) = drain(scheduler)
    np.testing.assert_array_equal(finished.tally.histogram, alone(whole))


def test_overflowed_rows_end_their_own_request_alone() -> None:
    """Logits that are not numbers cannot vote; batch-mates are not touched."""
    scheduler = Scheduler(AMPLE)
    wild, calm = request(votes=2, seed=1), request(votes=2, seed=2)
    scheduler.add(wild)
    scheduler.add(calm)
    batch = scheduler.next_batch(4)
    assert batch is not None
    logits = fake_logits(batch.feeds(), CLASSES)
    logits[0, 0] = np.inf
    ended = {finished.request: finished for finished in scheduler.absorb(batch, ballots(logits))}
    assert isinstance(ended[wild].error, OverflowedError)
    assert ended[calm].error is None
    np.testing.assert_array_equal(ended[calm].tally.histogram, alone(calm))


def test_requests_to_a_session_that_is_away_wait_for_it() -> None:
    """They count among what waits, may leave, and go on once it is back; others are not kept waiting."""
    away = key(0)
    scheduler = Scheduler(QueueLimits(rows=100, bytes=10**6))
    assert scheduler.put_away(away)
    first, leaves, third = (request(votes=4) for _ in range(3))
    for each in (first, leaves, third, beside := request(votes=2, session=1)):
        scheduler.add(each)
    assert scheduler.rows == 14
    scheduler.cancel(leaves)
    batch = scheduler.next_batch(32)
    assert batch is not None
    assert [share.request for share in batch.shares] == [beside]
    assert scheduler.next_session() is None
    assert not scheduler.put_away(away)
    scheduler.bring_back(away)
    batch = scheduler.next_batch(32)
    assert batch is not None
    assert [share.request for share in batch.shares] == [first, third]


def test_requests_to_a_session_that_does_not_come_back_end_with_its_error() -> None:
    """And nothing of them is held any more."""
    scheduler = Scheduler(QueueLimits(rows=100, bytes=10**6))
    scheduler.put_away(key(0))
    requests = [request(votes=4) for _ in range(2)]
    for each in requests:
        scheduler.add(each)
    error = EngineError("it is broken")
    assert [(done.request, done.error) for done in scheduler.give_up(key(0), error)] == [
        (each, error) for each in requests
    ]
    assert (len(scheduler), scheduler.rows, scheduler.bytes) == (0, 0, 0)
    assert scheduler.put_away(key(0))
