"""Which rows are cut for themselves, beside a plain model of the rule, and what others wait for it."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.batch import Batch
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import MOST_SHARING, QueueLimits, Scheduler, deficit_round_robin
from noisevote.service.scheduling.short_first import SHORT_ROWS
from noisevote.voting.stopping import Fixed
from tests.support.effort import examples

AMPLE = QueueLimits(rows=10**7, bytes=10**9)
# Votes and session of a request that comes, rows of a batch that is cut, or the number of a request that leaves.
STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from([1, 2, SHORT_ROWS, SHORT_ROWS + 1, 9, 30]), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.integers(1, 9), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0)),
)


def request(votes: int, session: int = 0) -> VoteRequest:
    """A request of one input."""
    key = SessionKey("tiny", "1", f"v{session}")
    return VoteRequest(key, np.zeros((1, 1), np.float32), 3, (0.5, 0.0), 0, votes, Fixed())


@dataclass
class Plain:
    """The rule, slow and plain: lists, looked through from the beginning for every batch."""

    turns: list[SessionKey] = field(default_factory=list)
    waiting: dict[SessionKey, deque[Progress]] = field(default_factory=dict)
    became_short: list[Progress] = field(default_factory=list)  # in that order, which breaks ties
    short_before: bool = False

    def add(self, wanted: VoteRequest) -> None:
        """At the end of its session's ring, and its session at the end of the turns if nothing of it waited."""
        if wanted.session not in self.turns:
            self.turns.append(wanted.session)
        self.waiting.setdefault(wanted.session, deque()).append(Progress(wanted))
        self._look(self.waiting[wanted.session][-1])

    def cut(self, max_rows: int) -> list[tuple[VoteRequest, int]]:
        """The requests of the next batch with their rows."""
        if not self.turns:
            return []
        everybody = [each for session in self.turns for each in self.waiting[session]]
        short = self.became_short
        if short and len(short) < len(everybody) and not self.short_before:
            self.short_before = True
            session = next(each for each in everybody if each in short).request.session
            allotted, room = {}, max_rows
            for each in sorted((each for each in short if each.request.session == session), key=lambda e: e.wanted):
                if room:
                    allotted[each] = min(room, each.wanted)
                    room -= allotted[each]
            ring = deque(each for each in self.waiting[session] if allotted.get(each) != each.wanted)
        else:
            self.short_before = False
            session, ring = self.turns[0], self.waiting[self.turns[0]]
            allotted = deficit_round_robin(ring, max_rows)
            self.turns = [*self.turns[1:], session]
        for each, rows in allotted.items():
            each.issue(rows)
            self._look(each)
        self._keep(session, ring)
        return [(each.request, rows) for each, rows in allotted.items()]

    def cancel(self, wanted: VoteRequest) -> None:
        """It waits no more."""
        if wanted.session in self.turns:
            left = (each for each in self.waiting[wanted.session] if each.request is not wanted)
            self._keep(wanted.session, deque(left))
            self.became_short = [each for each in self.became_short if each.request is not wanted]

    def _look(self, each: Progress) -> None:
        if not 0 < each.wanted <= SHORT_ROWS:
            self.became_short = [other for other in self.became_short if other is not each]
        elif each not in self.became_short:
            self.became_short.append(each)

    def _keep(self, session: SessionKey, ring: deque[Progress]) -> None:
        self.waiting[session] = ring
        if not ring:
            self.turns.remove(session)


def cut(scheduler: Scheduler, max_rows: int) -> list[tuple[VoteRequest, int]]:
    """The same of the scheduler."""
    batch = scheduler.next_batch(max_rows)
    return [] if batch is None else [(share.request, len(share.inputs)) for share in batch.shares]


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(STEPS, min_size=1, max_size=60))
def test_batches_are_those_of_the_plain_rule(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes, is cut and leaves: the same requests in the same order, with as many rows each."""
    fast, plain = Scheduler(AMPLE), Plain()
    known: list[VoteRequest] = []
    for what, number, session in steps:
        if what == "add":
            known.append(request(number, session))
            fast.add(known[-1])
            plain.add(known[-1])
        elif what == "cut":
            if (expected := fast.next_session()) is not None:
                assert expected == plain_session(plain)
            assert sorted(cut(fast, number), key=order) == sorted(plain.cut(number), key=order)
        elif known:
            leaving = known[number % len(known)]
            fast.cancel(leaving)
            plain.cancel(leaving)
    while (batch := cut(fast, 4)) or plain.turns:
        assert sorted(batch, key=order) == sorted(plain.cut(4), key=order)


def order(share: tuple[VoteRequest, int]) -> tuple[int, int]:
    """Equal requests are told apart by identity."""
    return id(share[0]), share[1]


def plain_session(plain: Plain) -> SessionKey:
    """Whose batch is next."""
    everybody = [each for session in plain.turns for each in plain.waiting[session]]
    short = [each for each in everybody if each.wanted <= SHORT_ROWS]
    first = short if short and len(short) < len(everybody) and not plain.short_before else everybody
    return first[0].request.session


@given(st.integers(1, SHORT_ROWS), st.integers(SHORT_ROWS, 32), st.integers(0, 5))
def test_a_short_request_is_over_within_two_batches(votes: int, max_rows: int, cut_before: int) -> None:
    """However much waits, and whatever was cut last; the batch that ends it has no rows of others but short ones."""
    scheduler = Scheduler(AMPLE)
    for _ in range(4):
        scheduler.add(request(1000))
    for _ in range(cut_before):
        cut(scheduler, max_rows)
    small = request(votes)
    scheduler.add(small)
    batches = [cut(scheduler, max_rows) for _ in range(2)]
    assert batches[0] == [(small, votes)]
    assert small not in {each for each, _ in batches[1]}


@given(st.integers(1, SHORT_ROWS), st.integers(3 * SHORT_ROWS, 32), st.integers(2, 20))
def test_a_stream_of_short_requests_leaves_every_other_batch_to_turns(votes: int, max_rows: int, rounds: int) -> None:
    """A long request has its rows in it, as if nobody were short."""
    scheduler = Scheduler(AMPLE)
    long = request(10_000)
    scheduler.add(long)
    served = []
    for _ in range(2 * rounds):
        for _ in range(3):
            scheduler.add(request(votes))
        served.append(dict(cut(scheduler, max_rows)).get(long, 0))
    assert not any(served[0::2])
    assert min(served[1::2]) >= max_rows // MOST_SHARING


def test_rows_that_a_batch_has_no_room_for_stay_short() -> None:
    """Fewest rows first; the others are in the next short batch."""
    scheduler = Scheduler(AMPLE)
    long, small, smaller = request(100), request(4), request(2)
    for each in (long, small, smaller):
        scheduler.add(each)
    assert cut(scheduler, 4) == [(smaller, 2), (small, 2)]
    batch = scheduler.next_batch(4)  # by turns, in which the long one comes first
    assert isinstance(batch, Batch)
    assert long in {share.request for share in batch.shares}
