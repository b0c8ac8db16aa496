"""The clients, asking the whole application."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.client import (
    Answer,
    AnswerError,
    AsyncClient,
    Certificates,
    Client,
    Planning,
    RefusedError,
    Standing,
    Stop,
    UnreachableError,
    UnrepeatableError,
)
from noisevote.client.events import EventReader
from noisevote.model_store.store import ModelStore
from tests.support.graphs import CLASSES, SHAPE
from tests.support.process import free_port
from tests.support.serving import client_of, serve
from tests.support.smoothed import SHAPE as SMOOTH_SHAPE

INPUTS = np.random.default_rng(3).random((2, *SHAPE)).astype(np.float32)
NOISY: dict[str, Any] = {"sigma": 0.7, "votes": 30, "seed": 2**64 - 1}


async def test_an_answer_is_what_the_server_says(client: AsyncClient, store: ModelStore) -> None:
    """Every key of the answer has its place, as a value of its type."""
    answer = await client.predict("tiny", INPUTS, **NOISY, stop=Stop("confidence", 0.2), reads=2, alpha=0.1)
    assert (answer.model, answer.version, answer.seed, answer.votes) == ("tiny", "1", 2**64 - 1, 30)
    assert (answer.stop, answer.reads, answer.alpha, answer.noise) == (
        Stop("confidence", 0.2),
        2,
        0.1,
        "multiplicative",
    )
    assert answer.sha256 == next(v.sha256 for v in store.manifest("tiny", "1").variants if v.name == answer.variant)
    for prediction, raw in zip(answer.predictions, answer.raw["predictions"], strict=True):
        assert {key: value for key, value in vars(prediction).items() if value is not None} == {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
    assert set(answer.raw) == {key for key in vars(answer) if key != "raw"}


@pytest.mark.parametrize("returns", ["label", "histogram", "probabilities", "votes"])
async def test_what_is_not_shown_is_none(client: AsyncClient, returns: Any) -> None:
    """As the request chose."""
    prediction = (await client.predict("tiny", INPUTS, **NOISY, returns=returns)).predictions[0]
    shown = (prediction.histogram, prediction.mean_probabilities, prediction.votes)
    order = ["label", "histogram", "probabilities", "votes"]
    assert [each is not None for each in shown] == [order.index(returns) >= place for place in (1, 2, 3)]
    if returns == "votes":
        assert prediction.logits().shape == (30, CLASSES)
        assert prediction.logits().dtype == np.float32
    else:
        with pytest.raises(ValueError, match="votes"):
            prediction.logits()


async def test_leading_classes_are_shown_and_repeat(client: AsyncClient) -> None:
    """The label first, with the votes of the whole histogram; a replay compares those."""
    whole = (await client.predict("tiny", INPUTS, **NOISY)).predictions
    answer = await client.predict("tiny", INPUTS, **NOISY, top_k=2)
    for all_classes, prediction in zip(whole, answer.predictions, strict=True):
        assert prediction.histogram is None
        assert prediction.top is not None
        assert prediction.top[0].index == prediction.index
        assert all_classes.histogram is not None
        assert [each.votes for each in prediction.top] == sorted(all_classes.histogram, reverse=True)[:2]
        assert all(each.votes == all_classes.histogram[each.index] for each in prediction.top)
    assert (await client.replay(answer, INPUTS)).succeeded
    assert answer.predictions[0].top is not None
    few = replace(answer.predictions[0], top=(replace(answer.predictions[0].top[0], votes=0),))
    changed = replace(answer, predictions=(few, answer.predictions[1]))
    assert not (await client.replay(changed, INPUTS)).succeeded


async def test_a_stream_is_an_iterator_that_ends_with_the_answer(client: AsyncClient) -> None:
    """Standings before it count up to it."""
    events = [event async for event in client.stream("tiny", INPUTS, **NOISY | {"votes": 3000})]
    *standings, answer = events
    assert isinstance(answer, Answer)
    assert answer.predictions == (await client.predict("tiny", INPUTS, **NOISY | {"votes": 3000})).predictions
    assert standings
    used = [0, 0]
    for standing in standings:
        assert isinstance(standing, Standing)
        for prediction in standing.predictions:
            assert prediction.input is not None
            assert prediction.votes_used is not None
            assert used[prediction.input] < prediction.votes_used <= 3000
            used[prediction.input] = prediction.votes_used


async def test_plans_models_and_certificates(client: AsyncClient) -> None:
    """Each as a value; inputs of another model are told from the server's message."""
    found = await client.plan("tiny", sigma=1.0, accuracy=0.65)
    assert isinstance(found, Planning)
    assert found.plan is not None
    assert (found.feasible, found.plan.variant) == (True, "mul-0.8")
    models = {each.name: each for each in await client.models()}
    assert set(models) == {"tiny", "smooth"}
    assert models["tiny"] == await client.model("tiny", "1")
    assert models["tiny"].manifest.input.shape == SHAPE
    inputs = np.random.default_rng(2).random((2, *SMOOTH_SHAPE))
    certificates = await client.certify("smooth", inputs, n0=20, n=200)
    assert len(certificates.certificates) == 2
    *_, last = [event async for event in client.stream_certificates("smooth", inputs, n0=20, n=200)]
    assert isinstance(last, Certificates)
    with pytest.raises(RefusedError, match="inputs"):
        await client.predict("smooth", INPUTS)


async def test_refusals_are_the_servers_own(client: AsyncClient) -> None:
    """Status, code and message; keys that this client does not know are sent as they are."""
    for asked, status, message in (
        (client.predict("tiny", INPUTS, sigma=-1), 422, "sigma"),
        (client.predict("other", INPUTS), 404, "other"),
        (client.predict("tiny", INPUTS, version="9"), 404, "9"),
        (client.predict("tiny", INPUTS, also={"colour": "blue"}), 422, "colour"),
    ):
        with pytest.raises(RefusedError, match=message) as caught:
            await asked
        assert caught.value.status == status
    with pytest.raises(RefusedError, match="sigma"):
        async for _ in client.stream("tiny", INPUTS, sigma=-1):
            pass


async def test_concurrent_requests_get_their_own_answers(client: AsyncClient) -> None:
    """One client for many."""
    asked = [client.predict("tiny", INPUTS, sigma=0.7, votes=5 + number, seed=number) for number in range(20)]
    answers = await asyncio.gather(*asked)
    assert [(answer.seed, answer.votes) for answer in answers] == [(number, 5 + number) for number in range(20)]


async def test_a_key_is_sent_as_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument's, or the variable's; none without either."""
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"models": []})

    transport = httpx.MockTransport(answer)
    Client(transport=transport).models()
    monkeypatch.setenv("NOISEVOTE_API_KEY", "nv_variable")
    Client(transport=transport).models()
    Client(key="nv_argument", transport=transport).models()
    assert seen == [None, "Bearer nv_variable", "Bearer nv_argument"]


def test_where_no_server_answers_it_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address, what happened, and how to start a server or name another."""
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("NOISEVOTE_URL", url)
    with Client() as client, pytest.raises(UnreachableError, match=r"no server answers .*noisevote serve") as caught:
        client.models()
    assert str(caught.value).startswith(url)
    with Client() as client, pytest.raises(UnreachableError, match="no server answers"):
        next(iter(client.stream("tiny", INPUTS)))
    with pytest.raises(UnreachableError, match="begins with http://"):
        Client("localhost:8000")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(200, text="<html>"), "no JSON"),
        (httpx.Response(200, json=[]), "no JSON object"),
        (httpx.Response(200, json={}), "no list of models"),
        (httpx.Response(200, json={"models": [{"name": "x"}]}), "version"),
        (httpx.Response(301, headers={"location": "https://lab.example"}), "301 to https://lab.example"),
        (httpx.Response(404, text="not here"), "answers 404, which is no answer of a noisevote server"),
        (httpx.Response(502, json={"detail": "x"}), "answers 502"),
    ],
)
def test_another_server_is_told_from_ours(response: httpx.Response, message: str) -> None:
    """Its answer is none of this API, whatever it is."""
    with (
        Client(transport=httpx.MockTransport(lambda _: response)) as client,
        pytest.raises(AnswerError, match=message),
    ):
        client.models()


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    """Without its last event nothing was answered; an error event is raised as it is told."""
    cut = httpx.Response(200, text='event: votes\ndata: {"predictions": []}\n\n')
    with (
        Client(transport=httpx.MockTransport(lambda _: cut)) as client,
        pytest.raises(AnswerError, match="ended before its answer"),
    ):
        list(client.stream("tiny", INPUTS))
    failed = httpx.Response(
        200, text='event: error\ndata: {"error": {"code": "engine_error", "message": "broken"}}\n\n'
    )
    with Client(transport=httpx.MockTransport(lambda _: failed)) as client, pytest.raises(RefusedError, match="broken"):
        list(client.stream("tiny", INPUTS))


def test_events_are_read_line_by_line() -> None:
    """Comments are passed over, lines of data joined, and an event without data is none."""
    reader = EventReader()
    lines = [": ping", "", "event: votes", "data: {", "data:}", "", "event: nothing", "", "data: x", ""]
    found = [(event.name, event.data) for line in lines if (event := reader.feed(line)) is not None]
    assert found == [("votes", b"{\n}"), ("", b"x")]


async def test_an_answer_repeats(client: AsyncClient) -> None:
    """Whatever of it was shown, and to the last bit; with other inputs it does not."""
    for returns in ("histogram", "probabilities", "votes"):
        options: dict[str, Any] = NOISY | {"seed": None, "first_vote": 3, "stop": "exact", "returns": returns}
        answer = await client.predict("tiny", INPUTS, **options)
        found = await client.replay(answer, INPUTS)
        assert (found.outcome, found.differences) == ("same to the last bit", ())
        assert found.close is not None
    other = await client.replay(answer, INPUTS[::-1])
    assert (other.outcome, other.succeeded) == ("different", False)
    assert any(str(each).startswith("predictions[0].votes[3].") for each in other.differences)


async def test_what_cannot_be_repeated_says_so(client: AsyncClient) -> None:
    """A drawn seed that is not shown, other inputs, or a deadline that cut it."""
    hidden = await client.predict("tiny", INPUTS, sigma=0.5, returns="label")
    with pytest.raises(UnrepeatableError, match="seed"):
        await client.replay(hidden, INPUTS)
    answer = await client.predict("tiny", INPUTS, **NOISY)
    with pytest.raises(UnrepeatableError, match="inputs: the answer is about 2, and 1 are given"):
        await client.replay(answer, INPUTS[:1])


async def test_where_votes_may_not_be_shown_their_count_is_compared(store: ModelStore) -> None:
    """The server's bound is kept; close votes are then not known."""
    async with serve(store, max_shown_logits=10) as http, client_of(http) as client:
        answer = await client.predict("tiny", INPUTS, **NOISY)
        found = await client.replay(answer, INPUTS)
    assert (found.outcome, found.close) == ("same to the last bit", None)
