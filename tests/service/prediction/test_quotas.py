import pytest
from hypothesis import given
from hypothesis import strategies as some

from noisevote.service.callers import ANYBODY, Caller, Quotas
from noisevote.service.errors import ForbiddenError, QuotaExceededError
from noisevote.service.prediction.quotas import WINDOW_S, QuotaBook, seconds_until_room


class Clock:
    """Seconds, as the library asks for them."""

    now = 1_000_000 * 60.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The library reads `time.time`."""
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


def caller(name: str = "alice", **quotas: int) -> Caller:
    """Somebody with these quotas."""
    return Caller(name, frozenset({"predict"}), Quotas(**quotas))


def test_requests_a_minute_are_counted_for_each_key(clock: Clock) -> None:
    """The one too many is refused until the first of them is a minute old; others are not concerned."""
    book, alice = QuotaBook(), caller(requests_per_minute=3)
    for _ in range(3):
        book.count_request(alice)
        clock.now += 10
    with pytest.raises(
        QuotaExceededError, match=r"key 'alice': requests_per_minute: .* 3 in the last minute"
    ) as caught:
        book.count_request(alice)
    assert caught.value.headers == {"Retry-After": "30"}
    book.count_request(caller("bob", requests_per_minute=3))
    clock.now += 30.01
    book.count_request(alice)


def test_nobody_queues_all_votes(clock: Clock) -> None:
    """Votes that wait count until their request is over, however it ends; other keys have their own."""
    book, alice = QuotaBook(), caller(queued_votes=100)
    with book.queued(alice, 60):
        with pytest.raises(QuotaExceededError, match="key 'alice': queued_votes: 60 wait; 41 more") as caught:
            book.check(alice, 41, 1)
        assert caught.value.headers == {"Retry-After": "1"}
        book.check(alice, 40, 1)
        book.check(caller("bob", queued_votes=100), 100, 1)
    with pytest.raises(ZeroDivisionError), book.queued(alice, 100):
        raise ZeroDivisionError
    book.check(alice, 100, 1)


def test_what_no_waiting_helps_is_forbidden(clock: Clock) -> None:
    """A priority above the key's, or a request above its quota by itself: 403, since 429 says to come back."""
    book = QuotaBook()
    for name, asking, votes, priority in (
        ("priority", caller(priority=4), 1, 5),
        ("queued_votes", caller(queued_votes=10), 11, 1),
        ("votes_per_minute", caller(votes_per_minute=10), 11, 1),
    ):
        with pytest.raises(ForbiddenError, match=f"key 'alice': {name}: "):
            book.check(asking, votes, priority)
    book.check(caller(priority=4), 1, 4)


def test_anybody_has_no_quota(clock: Clock) -> None:
    """Where no key is needed, clients cannot be told apart."""
    book = QuotaBook()
    for _ in range(1000):
        book.count_request(ANYBODY)
    with book.queued(ANYBODY, 10**6):
        book.check(ANYBODY, 10**6, 8)


def retry_after(book: QuotaBook, caller: Caller, votes: int) -> int:
    """In how many seconds to come back; 0: now."""
    try:
        book.check(caller, votes, 1)
    except QuotaExceededError as error:
        return error.retry_after_s
    return 0


@given(
    spent=some.lists(some.tuples(some.floats(0, 50), some.integers(1, 40)), min_size=1, max_size=20),
    asked=some.integers(1, 100),
)
def test_after_retry_after_there_is_room(spent: list[tuple[float, int]], asked: int) -> None:
    """Whatever was asked for before: refused votes are accepted once the told time is over, in whole seconds."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr("time.time", clock)
        book, alice = QuotaBook(), caller(votes_per_minute=100)
        for pause, votes in spent:
            clock.now += pause
            if not retry_after(book, alice, votes):
                with book.queued(alice, votes):
                    pass
        wait = retry_after(book, alice, asked)
        assert 0 <= wait <= 2 * WINDOW_S
        clock.now += wait + 0.01
        book.check(alice, asked, 1)


def test_votes_a_minute_are_counted_in_a_sliding_window(clock: Clock) -> None:
    """100 at once, none more in this minute; half a minute into the next, half of them count."""
    book, alice = QuotaBook(), caller(votes_per_minute=100)
    with book.queued(alice, 100):
        pass
    with pytest.raises(
        QuotaExceededError, match="key 'alice': votes_per_minute: it has asked for 100 of 100"
    ) as caught:
        book.check(alice, 50, 1)
    assert caught.value.headers == {"Retry-After": "90"}
    clock.now += 89
    with pytest.raises(QuotaExceededError):
        book.check(alice, 50, 1)
    clock.now += 1.01
    book.check(alice, 50, 1)


def test_no_vote_waits_where_there_is_room() -> None:
    """The formula at its ends."""
    assert seconds_until_room(0, 0, 60, 5) == 0
    assert seconds_until_room(10, 0, 60, 5) == 30
    assert seconds_until_room(0, 10, 20, 5) == 20 + 30
