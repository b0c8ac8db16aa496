"""Which rows are cut for themselves, beside a plain model of the rule, and what others wait for it."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.short_first import SHORT_ROWS
from noisevote.service.scheduling.turns import PART_ROWS, FairTurns
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

    sessions: list[SessionKey] = field(default_factory=list)  # whose turn it is first
    waiting: dict[SessionKey, FairTurns] = field(default_factory=dict)
    short: list[Progress] = field(default_factory=list)  # in the order in which they came
    short_before: bool = False
    alone: bool = False  # the next batch is of short ones

    def add(self, wanted: VoteRequest) -> None:
        """Its session comes last if nothing of it waited."""
        if wanted.session not in self.sessions:
            self.sessions.append(wanted.session)
            self.waiting[wanted.session] = FairTurns()
        progress = Progress(wanted)
        self.waiting[wanted.session].join(progress)
        if wanted.rows <= SHORT_ROWS:
            self.short.append(progress)

    def session(self) -> SessionKey:
        """Whose batch is next."""
        everybody = sum(len(self.waiting[each]) for each in self.sessions)
        self.alone = bool(self.short) and len(self.short) < everybody and not self.short_before
        short = {each.request.session for each in self.short}
        return next(each for each in self.sessions if each in short or not self.alone)

    def cut(self, rows: int) -> list[tuple[VoteRequest, int]]:
        """The requests of the next batch with their rows."""
        if not self.sessions:
            return []
        session = self.session()
        turns, allotted = self.waiting[session], dict[Progress, int]()
        if self.alone:
            for each in sorted((each for each in self.short if each in turns), key=lambda each: each.wanted):
                if (room := rows - sum(allotted.values())) > 0:
                    allotted[each] = min(room, each.wanted)
                    if allotted[each] == each.wanted:
                        turns.leave(each)
        else:
            allotted = turns.allot(rows, rows)
            self.sessions = [*(each for each in self.sessions if each != session), session]
        self.short_before = self.alone
        for each, taken in allotted.items():
            each.issue(taken)
        self._tidy()
        return [(each.request, rows) for each, rows in allotted.items()]

    def cancel(self, wanted: VoteRequest) -> None:
        """It waits no more."""
        for turns in self.waiting.values():
            for each in list(turns):
                if each.request is wanted:
                    turns.leave(each)
                    self.short = [other for other in self.short if other is not each]
        self._tidy()

    def _tidy(self) -> None:
        self.short = [each for each in self.short if each.wanted]
        self.sessions = [each for each in self.sessions if len(self.waiting[each])]


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
                assert expected == plain.session()
            assert sorted(cut(fast, number), key=order) == sorted(plain.cut(number), key=order)
        elif known:
            leaving = known[number % len(known)]
            fast.cancel(leaving)
            plain.cancel(leaving)
    while (batch := cut(fast, 4)) or plain.sessions:
        assert sorted(batch, key=order) == sorted(plain.cut(4), key=order)


def order(share: tuple[VoteRequest, int]) -> tuple[int, int]:
    """Equal requests are told apart by identity."""
    return id(share[0]), share[1]


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


@given(st.integers(1, SHORT_ROWS), st.integers(1, 32), st.integers(2, 40), st.integers(1, 5))
def test_a_stream_of_short_requests_starves_nobody(votes: int, rows: int, rounds: int, stream: int) -> None:
    """A long request gets its share of every other batch, but for a few parts."""
    scheduler = Scheduler(AMPLE)
    long = request(10_000)
    scheduler.add(long)
    by_turns, served = 0.0, 0
    for number in range(2 * rounds):
        while scheduler.waiting(enough=10**6) < stream * votes or len(scheduler) <= stream:
            scheduler.add(request(votes))
        batch = dict(cut(scheduler, rows))
        served += batch.get(long, 0)
        by_turns += sum(batch.values()) if number % 2 else 0
        for each in batch:
            scheduler.cancel(each) if each is not long else None
    assert served >= by_turns / (1 + stream) - 2 * PART_ROWS


def test_the_last_rows_of_a_long_request_have_company() -> None:
    """It is no short one: what is left of it is cut by turns."""
    scheduler = Scheduler(AMPLE)
    long, other = request(10), request(100)
    for each in (long, other):
        scheduler.add(each)
    assert [cut(scheduler, 8), cut(scheduler, 8)] == [[(long, 8)], [(long, 2), (other, 6)]]


def test_the_fewest_rows_come_first() -> None:
    """What a batch of short ones has no room for is first among those that have their turn."""
    scheduler = Scheduler(AMPLE)
    long, small, smaller = request(100), request(4), request(2)
    for each in (long, small, smaller):
        scheduler.add(each)
    assert cut(scheduler, 4) == [(smaller, 2), (small, 2)]
    assert cut(scheduler, 8) == [(small, 2), (long, 6)]
