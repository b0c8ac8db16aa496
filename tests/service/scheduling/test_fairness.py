"""Which rows are in the next batch: requests, inputs and sessions take turns."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noisevote.service.scheduling.scheduler import Scheduler
from noisevote.voting.stopping import Exact, Fixed, StopRule
from tests.support.scheduling import AMPLE, CLASSES, alone, ballots_of, drain, request


def test_a_new_request_is_in_the_next_batch_however_much_waits() -> None:
    """One vote is not delayed by four requests of a thousand."""
    scheduler = Scheduler(AMPLE)
    for seed in range(4):
        scheduler.add(request(votes=1000, seed=seed))
    for _ in range(5):
        assert scheduler.next_batch(8)
    small = request(votes=1, seed=9)
    scheduler.add(small)
    batch = scheduler.next_batch(8)
    assert batch is not None
    assert small in {share.request for share in batch.shares}


@given(requests=st.integers(1, 12), max_rows=st.integers(1, 16), batches=st.integers(1, 40))
def test_waiting_requests_advance_together(requests: int, max_rows: int, batches: int) -> None:
    """While all have rows left, no request is ahead of another by more than a batch."""
    scheduler = Scheduler(AMPLE)
    for seed in range(requests):
        scheduler.add(request(votes=10_000, seed=seed))
    served: Counter[int] = Counter(dict.fromkeys(range(requests), 0))
    for _ in range(batches):
        batch = scheduler.next_batch(max_rows)
        assert batch is not None
        served.update({share.request.seed: len(share.inputs) for share in batch.shares})
    assert max(served.values()) - min(served.values()) <= max_rows


@given(st.lists(st.integers(1, 16), min_size=1, max_size=30), st.integers(1, 16))
def test_requests_of_a_batch_or_less_are_answered_in_order_of_their_rows(sizes: list[int], rows: int) -> None:
    """Of those that come together the fewest rows first; but for the last one, none in two batches."""
    scheduler = Scheduler(AMPLE, short_first=False)
    for seed, votes in enumerate(sizes):
        scheduler.add(request(votes=votes, seed=seed))
    seen = []
    while batch := scheduler.next_batch(rows, most=32):
        seen += [(share.request.votes, len(share.inputs)) for share in batch.shares]
    alone = sum(votes == seen[-1][0] for votes, _ in seen)
    assert all(votes == cut for votes, cut in seen[:-alone])
    assert [votes for votes, _ in seen] == sorted(votes for votes, _ in seen)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=6), st.integers(1, 10))
def test_batches_are_half_full_while_there_are_rows(sizes: list[tuple[int, int]], max_rows: int) -> None:
    """Work-conserving: a row waits for room for its whole request at most, where short ones are not cut apart."""
    scheduler = Scheduler(AMPLE, short_first=False)
    for seed, (inputs, budget) in enumerate(sizes):
        scheduler.add(request(inputs, budget, seed=seed))
    left = sum(inputs * budget for inputs, budget in sizes)
    while left:
        batch = scheduler.next_batch(max_rows)
        assert batch is not None
        assert min(max_rows / 2, left) <= len(batch) <= max_rows
        left -= len(batch)
    assert scheduler.next_batch(max_rows) is None


def test_sessions_take_turns() -> None:
    """A batch holds rows of one session, and no session waits for another to finish."""
    scheduler = Scheduler(AMPLE)
    for session in (0, 0, 1):
        scheduler.add(request(votes=100, seed=session, session=session))
    turns = [batch.session.variant for _ in range(6) if (batch := scheduler.next_batch(8))]
    assert turns == ["v0", "v1"] * 3


def test_rows_of_an_input_stay_together() -> None:
    """Input after input, so that as many votes as can be share what is computed before the first noise."""
    scheduler = Scheduler(AMPLE)
    scheduler.add(request(inputs=3, votes=4))
    batch = scheduler.next_batch(6)
    assert batch is not None
    (share,) = batch.shares
    assert share.inputs.tolist() == [0, 0, 0, 0, 1, 1]
    assert share.votes.tolist() == [0, 1, 2, 3, 0, 1]


@given(
    inputs=st.integers(1, 9),
    votes=st.integers(1, 9),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    rule=st.sampled_from([Fixed(), Exact()]),
)
def test_an_anytime_request_advances_on_all_inputs_alike(
    inputs: int, votes: int, sizes: list[int], rule: StopRule
) -> None:
    """Whenever it ends, no input that wants votes has got more than one fewer than another."""
    scheduler = Scheduler(AMPLE)
    wanted = request(inputs, votes, rule, anytime=True)
    scheduler.add(wanted)
    handed: Counter[tuple[int, int]] = Counter()
    first_ask = int(rule.more(np.zeros((1, CLASSES), np.int64), votes)[0])
    for size in sizes:
        batch = scheduler.next_batch(size)
        if batch is None:
            break
        (share,) = batch.shares
        assert len(batch) == min(size, inputs * first_ask - handed.total())
        handed.update(zip(share.inputs.tolist(), share.votes.tolist(), strict=True))
        issued = [sum(input_ == i for input_, _ in handed) for i in range(inputs)]
        assert max(issued) - min(issued) <= 1
        assert set(handed) == {(i, vote) for i in range(inputs) for vote in range(issued[i])}
    assert set(handed.values()) == {1}


def test_once_levelled_no_input_is_left_without_votes() -> None:
    """Those with fewest come first, and in the end each has the votes that it has anyway."""
    scheduler = Scheduler(AMPLE)
    wanted = request(inputs=3, votes=10)
    scheduler.add(wanted)
    batches = [scheduler.next_batch(6)]
    scheduler.level()
    batches.append(scheduler.next_batch(6))
    given = [Counter(batch.shares[0].inputs.tolist()) for batch in batches if batch is not None]
    assert given == [{0: 6}, {1: 3, 2: 3}]
    for batch in batches:
        assert batch is not None
        scheduler.absorb(batch, ballots_of(batch))
    (result,) = drain(scheduler)
    np.testing.assert_array_equal(result.tally.histogram, alone(wanted))
