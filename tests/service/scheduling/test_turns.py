"""In which order requests get rows: beside a plain model of the rule, and what it promises to each of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.turns import MOST_SHARING, PART_ROWS, FairTurns, Turns
from noisevote.voting.stopping import Fixed
from tests.support.effort import examples

KEY = SessionKey("tiny", "1", "v0")
ENDLESS = 10**6


def waiting(votes: int, priority: int = 1, *, anytime: bool = False) -> Progress:
    """A request of one input."""
    rule = Fixed()
    return Progress(VoteRequest(KEY, np.zeros((1, 1), np.float32), 3, (0.5, 0.0), 0, votes, rule, priority, anytime))


def cut(turns: Turns, rows: int, most: int | None = None) -> dict[Progress, int]:
    """A batch, handed out."""
    allotted = turns.allot(rows, most or rows)
    for progress, taken in allotted.items():
        progress.issue(taken)
    return allotted


class PlainTurns:
    """The rule, slow and plain: everything is looked through for each part."""

    def __init__(self) -> None:
        self.served: dict[Progress, float] = {}  # who waits, first who waits for its part longest
        self.ready: dict[Progress, float] = {}
        self.now = 0.0

    def join(self, progress: Progress) -> None:
        """At the present time."""
        self.put(progress, self.now, progress.wanted)

    def leave(self, progress: Progress) -> None:
        """Without a trace."""
        del self.served[progress], self.ready[progress]

    def put(self, progress: Progress, served: float, wanted: int) -> None:
        """Behind those whose part would be ready at the same time."""
        self.served[progress] = served
        self.ready[progress] = served + min(wanted, PART_ROWS) / progress.request.priority

    def allot(self, rows: int, most: int) -> dict[Progress, int]:
        """Part after part, each of the request whose part would be ready first."""
        priorities = sum(each.request.priority for each in self.served)
        longest = most if len(self.served) > 1 else rows
        allotted: dict[Progress, int] = {}
        while self.served and sum(allotted.values()) < rows:
            given = sum(allotted.values())
            first = min(self.served, key=lambda each: self.ready[each])
            wanted = first.wanted - allotted.get(first, 0)
            if first.anytime:
                part = min(wanted, rows - given, max(1, rows // min(len(self.served), MOST_SHARING)))
            elif given + wanted <= (longest if first.request.rows <= longest else rows):
                part = wanted
            elif given >= rows / 2:
                break
            else:
                part = min(wanted, rows - given)
            allotted[first] = allotted.get(first, 0) + part
            served = self.served[first] + part / first.request.priority
            self.leave(first)
            if wanted > part:
                self.put(first, served, wanted - part)
        self.now += sum(allotted.values()) / max(1, priorities)
        if self.served:
            self.now = max(self.now, min(self.ready.values()) - PART_ROWS)
        return allotted


SIZES = st.sampled_from([1, 2, 5, 9, 16, 17, 20, 33, 40, 100])
STEPS = st.one_of(
    st.tuples(st.just("join"), SIZES, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("cut"), st.integers(1, 20), st.integers(0, 20), st.just(value=False)),
    st.tuples(st.just("leave"), st.integers(0, 20), st.just(0), st.just(value=False)),
)


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(STEPS, min_size=1, max_size=60))
def test_parts_are_those_of_the_plain_rule(steps: list[tuple[str, int, int, bool]]) -> None:
    """Whatever joins, is cut and leaves: the same requests in the same order, with as many rows each."""
    turns, plain, known = FairTurns(), PlainTurns(), list[Progress]()
    for what, number, other, anytime in steps:
        if what == "join":
            known.append(waiting(number, other, anytime=anytime))
            turns.join(known[-1])
            plain.join(known[-1])
        elif what == "cut":
            expected = plain.allot(number, number + other)
            assert list(cut(turns, number, number + other).items()) == list(expected.items())
        elif len(turns):
            gone = known[number % len(known)]
            if gone in turns:
                turns.leave(gone)
                plain.leave(gone)
        assert set(turns) == set(plain.served)
        assert len(turns) == len(plain.served)


@given(st.lists(st.tuples(SIZES, st.integers(1, 12), st.integers(0, 12)), max_size=60), st.integers(1, 4))
def test_requests_that_come_together_get_rows_in_proportion_to_their_priorities(
    company: list[tuple[int, int, int]], priority: int
) -> None:
    """While both wait neither is ahead by more than a part and a batch, whoever else comes and goes."""
    turns, pair = FairTurns(), (waiting(ENDLESS), waiting(ENDLESS, priority))
    for each in pair:
        turns.join(each)
    for votes, rows, more in company:
        turns.join(waiting(votes))
        cut(turns, rows, rows + more)
        first, second = (int(each.issued[0]) / each.request.priority for each in pair)
        assert abs(first - second) <= PART_ROWS + 24


@given(
    others=st.integers(1, 30),
    before=st.lists(st.integers(1, 16), max_size=40),
    votes=st.integers(1, PART_ROWS),
    rows=st.integers(1, 16),
)
def test_a_request_waits_for_about_as_many_rows_of_each_other_as_it_has_itself(
    others: int, before: list[int], votes: int, rows: int
) -> None:
    """However long the others are, and whatever they got before."""
    turns, long = FairTurns(), [waiting(ENDLESS) for _ in range(others)]
    for each in long:
        turns.join(each)
    for batch in before:
        cut(turns, batch)
    had = {each: int(each.issued[0]) for each in long}
    turns.join(small := waiting(votes))
    while small in turns:
        cut(turns, rows, 2 * rows)
    assert max(int(each.issued[0]) - had[each] for each in long) <= votes + rows


@given(clients=st.integers(1, 12), votes=st.integers(1, 40), rows=st.integers(1, 16), batches=st.integers(1, 200))
def test_a_long_request_is_not_starved_by_clients_that_ask_again_and_again(
    clients: int, votes: int, rows: int, batches: int
) -> None:
    """It gets its share of all rows, but for a few parts."""
    turns, long = FairTurns(), waiting(ENDLESS)
    turns.join(long)
    asking = [waiting(votes) for _ in range(clients)]
    for each in asking:
        turns.join(each)
    given_rows = 0
    for _ in range(batches):
        given_rows += sum(cut(turns, rows, 2 * rows).values())
        for client, each in enumerate(asking):
            if each not in turns:
                asking[client] = waiting(votes)
                turns.join(asking[client])
    assert int(long.issued[0]) >= given_rows / (clients + 1) - 2 * PART_ROWS


@pytest.mark.parametrize(("rows", "most"), [(12, 24), (16, 32), (24, 32)])
def test_what_a_batch_can_finish_is_not_cut(rows: int, most: int) -> None:
    """Eight requests of 20 votes are eight batches, in the order in which they came."""
    turns, asked = FairTurns(), [waiting(20) for _ in range(8)]
    for each in asked:
        turns.join(each)
    assert [cut(turns, rows, most) for _ in range(7)] == [{each: 20} for each in asked[:7]]


def test_a_longer_request_is_cut_into_good_batches() -> None:
    """Its last rows have company."""
    turns, first, second = FairTurns(), waiting(100), waiting(100)
    for each in (first, second):
        turns.join(each)
    *most, last = [cut(turns, 12, 24) for _ in range(17)]
    assert most == [{first: 12}, {second: 12}] * 8
    assert last == {first: 4, second: 4}


def test_the_last_one_is_left_to_several_lanes() -> None:
    """Nobody waits behind it, so that a longer batch would keep others idle."""
    turns, last = FairTurns(), waiting(20)
    turns.join(last)
    assert [cut(turns, 12, 24) for _ in range(2)] == [{last: 12}, {last: 8}]


def test_who_may_be_looked_at_before_the_end_has_rows_in_every_batch() -> None:
    """So that votes come steadily, and each has some at its deadline."""
    turns, asked = FairTurns(), [waiting(100, anytime=True) for _ in range(4)]
    for each in asked:
        turns.join(each)
    assert [cut(turns, 16, 32) for _ in range(3)] == [dict.fromkeys(asked, 4)] * 3
