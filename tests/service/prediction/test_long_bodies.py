"""Long bodies: read by another process, to the same answer, and at most one at a time."""

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import orjson
import pytest

from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import ModelStore
from noisevote.service.errors import BodyUnreadError, InvalidValueError, QueueFullError
from noisevote.service.prediction.handle import LONG_BODY_BYTES, THREADED_BODY_BYTES
from noisevote.service.prediction.long_bodies import LongBodyReader
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.prediction.reader import Defect, Question
from noisevote.service.rest.v1.parse import parse
from noisevote.service.settings import Settings
from noisevote.service.unread import UnreadBytes
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

pytestmark = pytest.mark.slow

PATH = "/v1/models/tiny/predict"
JSON = {"content-type": "application/json"}
SPEC = InputSpec(shape=SHAPE, dtype="float32", value_range=(0.0, 1.0), preprocessing="none")
INPUTS = np.linspace(0, 1, 2 * 36).reshape(2, *SHAPE)
BODY = orjson.dumps({"inputs": INPUTS.tolist(), "votes": 7})


def question(parsing: object = parse) -> Question:
    """How to read BODY."""
    return Question(parsing, SPEC, Settings())  # type: ignore[arg-type]  # some tests give what does not parse


def defective(body: bytes, settings: Settings) -> PredictionRequest:
    """A defect of ours."""
    raise RuntimeError("nobody thought of this")


def endless(body: bytes, settings: Settings) -> PredictionRequest:
    """A body that keeps the interpreter, but not a processor: PyDLL does not let go of the lock."""
    ctypes.PyDLL(None).sleep(600)
    raise AssertionError


def fatal(body: bytes, settings: Settings) -> PredictionRequest:
    """A body that ends the process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@asynccontextmanager
async def reader(limit: int = 10**6, seconds: float = 60, idle_s: float = 60) -> AsyncIterator[LongBodyReader]:
    """A reader that is closed at the end."""
    reading = LongBodyReader(UnreadBytes(limit), seconds, idle_s)
    try:
        yield reading
    finally:
        reading.close()


@pytest.mark.parametrize("padding", [0, THREADED_BODY_BYTES, LONG_BODY_BYTES], ids=["short", "threaded", "long"])
async def test_an_answer_does_not_depend_on_who_read_the_body(store: ModelStore, padding: int) -> None:
    """On the event loop, on a thread or in another process: the same votes, or the same refusal."""
    good = orjson.dumps({"inputs": INPUTS.tolist(), "seed": 3, "sigma": 0.5})
    bad = orjson.dumps({"inputs": (INPUTS * 300).tolist()})
    async with serve(store, FakeEngine(CLASSES)) as client:
        answers = [await client.post(PATH, content=each + b" " * padding, headers=JSON) for each in (good, bad)]
        alone = await client.post(PATH, content=good, headers=JSON)
    assert answers[0].json()["predictions"] == alone.json()["predictions"]
    assert (answers[1].status_code, answers[1].json()["error"]["code"]) == (422, "invalid_value")
    assert answers[1].json()["error"]["message"].startswith("inputs[0][0][0][1]: 4.")


async def test_it_reads_what_a_body_asks_for() -> None:
    """Options and decoded inputs come back, errors with key and value, and a defect as such."""
    async with reader() as reading:
        asked = await reading.read(question(), BODY)
        assert (asked.inputs, asked.options.votes) == (2, 7)
        np.testing.assert_array_equal(asked.decode(SPEC), INPUTS.astype(np.float32))
        with pytest.raises(InvalidValueError, match="votes: 0") as refusal:
            await reading.read(question(), BODY.replace(b"7", b"0"))
        assert refusal.value.key == "votes"
        with pytest.raises(Defect, match="nobody thought of this"):
            await reading.read(question(defective), BODY)
        assert (await reading.read(question(), BODY)).inputs == 2


async def test_a_body_that_takes_the_process_with_it_harms_no_other() -> None:
    """Whether it ends the process or never comes to an end: 503, and the next is read by a new one."""
    async with reader(seconds=6) as reading:
        for harmful in (fatal, endless):
            with pytest.raises(BodyUnreadError, match="bytes could not be read"):
                await reading.read(question(harmful), BODY)
            assert (await reading.read(question(), BODY)).inputs == 2


async def test_bodies_that_wait_are_bounded() -> None:
    """By their bytes; what is over gives its room back."""
    async with reader(limit=2 * len(BODY)) as reading:
        results = await asyncio.gather(*(reading.read(question(), BODY) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [PredictionRequest, PredictionRequest, QueueFullError]
        assert (await reading.read(question(), BODY)).inputs == 2


async def test_an_idle_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory returns; the next body starts another."""
    async with reader(idle_s=0.01) as reading:
        await reading.read(question(), BODY)
        async with asyncio.timeout(30):
            while reading.process_id is not None:  # noqa: ASYNC110  # another thread ends it
                await asyncio.sleep(0.01)
        await reading.read(question(), BODY)


async def test_closing_ends_the_process_and_fails_what_it_reads() -> None:
    """Nothing outlives the server."""
    async with reader() as reading:
        await reading.read(question(), BODY)
        process = reading.process_id
        assert process is not None
        waiting = asyncio.create_task(reading.read(question(endless), BODY))
        await asyncio.sleep(0.05)
        reading.close()
        with pytest.raises(BodyUnreadError):
            await waiting
    async with asyncio.timeout(30):
        while os.path.exists(f"/proc/{process}"):  # noqa: ASYNC110, ASYNC240  # another thread ends it
            await asyncio.sleep(0.01)


async def test_a_client_of_a_broken_reader_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After where the process cannot even start."""
    monkeypatch.setattr("noisevote.service.prediction.long_bodies.READER", ("/nowhere/python",))
    async with serve(store, FakeEngine(CLASSES)) as client:
        response = await client.post(PATH, content=BODY + b" " * LONG_BODY_BYTES, headers=JSON)
    assert isinstance(response, httpx.Response)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "body_unread")
    assert response.headers["retry-after"] == "1"
