"""The client for programs that wait."""

import random
import time
from collections.abc import Callable, Iterator
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


class Client:
    """Asks a noisevote server. May be used by several threads; `close` it, or use it in a `with` statement.

    Args:
        url: of the server; default: the variable NOISEVOTE_URL, or http://127.0.0.1:8000.
        key: an API key; default: the variable NOISEVOTE_API_KEY.
        timeout_s: longest time without anything from the server.
        patience: how often and how long a busy server (429, 503) is asked again; Retry-After is kept.
        transport: how requests are sent; default: httpx's own.
        sleep: waits so many seconds.

    Every method raises `ClientError`: `InputError` for inputs that cannot be sent, `UnreachableError` where no server
    answers, `RefusedError` with the server's own message, and of it `BusyError` where patience has come to its end.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience: Patience = USUAL,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection.of(url, key, timeout_s, patience)
        self._http = httpx.Client(transport=transport, **self._connection.arguments())
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def models(self) -> tuple[Model, ...]:
        """The newest served version of every model."""
        return self._send(calls.models())

    def model(self, name: str, version: str | None = None) -> Model:
        """A served version of a model; the newest one unless another is named."""
        return self._send(calls.model(name, version))

    def predict(self, model: str, inputs: Inputs, **options: Unpack[PredictOptions]) -> Answer:
        """Run each input several times with noise, and let the runs vote.

        Args:
            model: its name.
            inputs: see `noisevote.client.inputs.written`.
            **options: see `PredictOptions`.
        """
        return self._send(calls.predict(model, inputs, options))

    def stream(self, model: str, inputs: Inputs, **options: Unpack[PredictOptions]) -> Iterator[Standing | Answer]:
        """The same while the votes are cast: how they stand whenever some were counted, and the answer as the last."""
        return self._stream(calls.predict(model, inputs, options), calls.prediction_event)

    def certify(self, model: str, inputs: Inputs, **options: Unpack[CertifyOptions]) -> Certificates:
        """Certify within which radius the decision on each input holds; see docs/certificates.md."""
        return self._send(calls.certify(model, inputs, options))

    def stream_certificates(
        self, model: str, inputs: Inputs, **options: Unpack[CertifyOptions]
    ) -> Iterator[Certificate | Certificates]:
        """The same while the votes are cast: how they stand on the input that is voted on, and at last all of them."""
        return self._stream(calls.certify(model, inputs, options), calls.certificate_event)

    def plan(self, model: str, **options: Unpack[PlanOptions]) -> Planning:
        """The cheapest variant, votes and reads that reach an accuracy, or the most accurate within a budget."""
        return self._send(calls.plan(model, options))

    def replay(self, answer: Answer, inputs: Inputs) -> Replay:
        """Ask for an answer's votes once more, with the same inputs, and compare.

        Raises:
            UnrepeatableError: the answer does not determine its votes.
        """
        options, fewer = repeating(answer)
        try:
            return compared(answer, self.predict(answer.model, inputs, **options))
        except RefusedError as error:
            if error.message.partition(":")[0] != "return":
                raise
        return compared(answer, self.predict(answer.model, inputs, **fewer))

    def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                response = self._http.request(call.method, call.path, json=call.body)
            except LOST as error:
                if tried > 1:
                    raise self._connection.failure(error) from error
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._connection.failure(error) from error
            if response.is_success:
                return call.read(response.content)
            self._pause(tried, response)

    def _stream(self, call: Call[Any], read: Callable[[Event], T]) -> Iterator[T]:
        tried = 0
        while True:
            tried += 1
            try:
                with self._http.stream(call.method, f"{call.path}/stream", json=call.body) as response:
                    if response.is_success:
                        yield from map(read, _events(response))
                        return
                    response.read()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._connection.failure(error) from error
            self._pause(tried, response)

    def _pause(self, tried: int, response: httpx.Response) -> None:
        """Wait until the server may be asked again, or raise what it said."""
        error = self._connection.error(response.status_code, response.content, response.headers)
        pause_s = self._connection.pause_s(tried, error, random.random())
        if pause_s is None:
            raise error
        self._sleep(pause_s)


def _events(response: httpx.Response) -> Iterator[Event]:
    reader, ended = EventReader(), False
    for line in response.iter_lines():
        if (event := reader.feed(line)) is not None:
            ended = event.name != "votes"
            yield event
    if not ended:
        raise AnswerError("the stream ended before its answer")
