"""The client for programs under asyncio."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from noisevote.client import calls
from noisevote.client.answers import Answer, Certificate, Certificates, Model, Planning, Standing
from noisevote.client.calls import Call
from noisevote.client.connection import LOST, TIMEOUT_S, Connection
from noisevote.client.errors import AnswerError, RefusedError
from noisevote.client.events import Event, EventReader
from noisevote.client.inputs import Inputs
from noisevote.client.options import CertifyOptions, PlanOptions, PredictOptions
from noisevote.client.patience import USUAL, Patience
from noisevote.client.replay import Replay, compared, repeating

T = TypeVar("T")


class AsyncClient:
    """`Client` with methods to await. Belongs to one event loop; `close` it, or use it in an `async with` statement.

    Arguments and errors are those of `Client`; `transport` and `sleep` are asynchronous.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience: Patience = USUAL,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = Connection.of(url, key, timeout_s, patience)
        self._http = httpx.AsyncClient(transport=transport, **self._connection.arguments())
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def models(self) -> tuple[Model, ...]:
        """The newest served version of every model."""
        return await self._send(calls.models())

    async def model(self, name: str, version: str | None = None) -> Model:
        """A served version of a model; the newest one unless another is named."""
        return await self._send(calls.model(name, version))

    async def predict(self, model: str, inputs: Inputs, **options: Unpack[PredictOptions]) -> Answer:
        """Run each input several times with noise, and let the runs vote.

        Args:
            model: its name.
            inputs: see `noisevote.client.inputs.written`.
            **options: see `PredictOptions`.
        """
        return await self._send(calls.predict(model, inputs, options))

    def stream(self, model: str, inputs: Inputs, **options: Unpack[PredictOptions]) -> AsyncIterator[Standing | Answer]:
        """The same while the votes are cast: how they stand whenever some were counted, and the answer as the last."""
        return self._stream(calls.predict(model, inputs, options), calls.prediction_event)

    async def certify(self, model: str, inputs: Inputs, **options: Unpack[CertifyOptions]) -> Certificates:
        """Certify within which radius the decision on each input holds; see docs/certificates.md."""
        return await self._send(calls.certify(model, inputs, options))

    def stream_certificates(
        self, model: str, inputs: Inputs, **options: Unpack[CertifyOptions]
    ) -> AsyncIterator[Certificate | Certificates]:
        """The same while the votes are cast: how they stand on the input that is voted on, and at last all of them."""
        return self._stream(calls.certify(model, inputs, options), calls.certificate_event)

    async def plan(self, model: str, **options: Unpack[PlanOptions]) -> Planning:
        """The cheapest variant, votes and reads that reach an accuracy, or the most accurate within a budget."""
        return await self._send(calls.plan(model, options))

    async def replay(self, answer: Answer, inputs: Inputs) -> Replay:
        """Ask for an answer's votes once more, with the same inputs, and compare.

        Raises:
            UnrepeatableError: the answer does not determine its votes.
        """
        options, fewer = repeating(answer)
        try:
            return compared(answer, await self.predict(answer.model, inputs, **options))
        except RefusedError as error:
            if error.message.partition(":")[0] != "return":
                raise
        return compared(answer, await self.predict(answer.model, inputs, **fewer))

    async def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                response = await self._http.request(call.method, call.path, json=call.body)
            except LOST as error:
                if tried > 1:
                    raise self._connection.failure(error) from error
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._connection.failure(error) from error
            if response.is_success:
                return call.read(response.content)
            await self._pause(tried, response)

    async def _stream(self, call: Call[Any], read: Callable[[Event], T]) -> AsyncIterator[T]:
        tried = 0
        while True:
            tried += 1
            try:
                async with self._http.stream(call.method, f"{call.path}/stream", json=call.body) as response:
                    if response.is_success:
                        async for event in _events(response):
                            yield read(event)
                        return
                    await response.aread()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._connection.failure(error) from error
            await self._pause(tried, response)

    async def _pause(self, tried: int, response: httpx.Response) -> None:
        """Wait until the server may be asked again, or raise what it said."""
        error = self._connection.error(response.status_code, response.content, response.headers)
        pause_s = self._connection.pause_s(tried, error, random.random())
        if pause_s is None:
            raise error
        await self._sleep(pause_s)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    reader, ended = EventReader(), False
    async for line in response.aiter_lines():
        if (event := reader.feed(line)) is not None:
            ended = event.name != "votes"
            yield event
    if not ended:
        raise AnswerError("the stream ended before its answer")
