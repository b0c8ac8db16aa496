"""How a client meets a busy server: nothing waits here."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from noisevote.client import AsyncClient, BusyError, Client, RefusedError, UnreachableError
from noisevote.client.patience import Patience, seconds_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODELS = httpx.Response(200, json={"models": []})
Answers = list[httpx.Response | type[httpx.TransportError]]


def busy(retry_after: str | None = None, status: int = 429) -> httpx.Response:
    """A refusal of the server's."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(status, headers=headers, json={"error": {"code": "queue_full", "message": "queue: full"}})


def server_of(answers: Answers) -> Callable[[httpx.Request], httpx.Response]:
    """Answers with these, one after another."""
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        coming = next(left)
        if isinstance(coming, httpx.Response):
            return httpx.Response(coming.status_code, headers=coming.headers, content=coming.content)
        raise coming("injected", request=request)

    return answer


async def waited_by(answers: Answers, patience: Patience = Patience()) -> list[list[float]]:  # noqa: B008  # frozen
    """How long either client waits, each time, until it is answered or gives up."""
    waits: list[list[float]] = [[], []]

    async def sleep(seconds: float) -> None:
        waits[1].append(seconds)

    with Client(
        patience=patience, transport=httpx.MockTransport(server_of(answers)), sleep=waits[0].append
    ) as blocking:
        _ignore_busy(blocking.models)
    async with AsyncClient(patience=patience, transport=httpx.MockTransport(server_of(answers)), sleep=sleep) as client:
        with contextlib.suppress(BusyError):
            await client.models()
    return waits


def _ignore_busy(ask: Callable[[], object]) -> None:
    with contextlib.suppress(BusyError):
        ask()


async def test_a_busy_server_is_asked_again_when_it_says() -> None:
    """After Retry-After, and up to a quarter more, so that not all who were refused come back at once."""
    for waits in await waited_by([busy("3"), busy("5", 503), MODELS]):
        assert len(waits) == 2
        assert 3 <= waits[0] <= 3 * 1.25
        assert 5 <= waits[1] <= 5 * 1.25


async def test_without_retry_after_it_waits_longer_each_time_and_gives_up() -> None:
    """Retries are bounded."""
    for waits in await waited_by([busy()] * 4):
        assert [round(wait, 1) >= least for wait, least in zip(waits, (0.5, 1, 2), strict=True)] == [True] * 3
        assert sum(waits) <= 3.5 * 1.25


async def test_a_wait_beyond_the_bound_is_not_begun() -> None:
    """The error says how long it would have been."""
    assert await waited_by([busy("31")]) == [[], []]
    client = Client(transport=httpx.MockTransport(server_of([busy("31")])))
    with pytest.raises(BusyError, match="queue: full") as caught:
        client.models()
    assert (caught.value.retry_after_s, caught.value.status, caught.value.code) == (31, 429, "queue_full")


async def test_no_patience_asks_once() -> None:
    """For callers with queues of their own."""
    assert await waited_by([busy("1")], Patience(retries=0)) == [[], []]


def test_other_refusals_are_told_at_once() -> None:
    """Asking again would be refused again."""
    answer = httpx.Response(422, json={"error": {"code": "invalid_value", "message": "sigma: -1"}})
    client = Client(transport=httpx.MockTransport(server_of([answer])))
    with pytest.raises(RefusedError, match="sigma: -1") as caught:
        client.models()
    assert not isinstance(caught.value, BusyError)


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """Once: requests can be repeated, since votes depend on nothing but them."""
    client = Client(transport=httpx.MockTransport(server_of([httpx.RemoteProtocolError, MODELS])))
    assert client.models() == ()
    client = Client(transport=httpx.MockTransport(server_of([httpx.RemoteProtocolError] * 2)))
    with pytest.raises(UnreachableError, match="injected"):
        client.models()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 0 ", 0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0),
        ("soon", None),
        ("-3", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(given: str | None, seconds: float | None) -> None:
    """What cannot be read is as none."""
    assert seconds_of(given, NOW) == seconds


def test_pauses_are_within_bounds() -> None:
    """Whatever the server says, however often, and whatever chance brings."""
    patience = Patience(retries=5, longest_pause_s=10)
    for tried, after, chance in itertools.product(range(1, 8), (None, 0, 1, 9, 10, 11), (0.0, 0.5, 1.0)):
        pause = patience.pause_s(tried, 429, after, chance)
        if tried > 5 or (after or 0) > 10:
            assert pause is None
        else:
            assert pause is None or (after or 0) <= pause <= 10
