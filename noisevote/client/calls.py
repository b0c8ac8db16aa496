"""What is asked of a server, before anything is sent: the same for blocking and asynchronous clients."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from noisevote.client.answers import Answer, Certificate, Certificates, Model, Planning, Prediction, Standing
from noisevote.client.errors import AnswerError, RefusedError
from noisevote.client.events import Event
from noisevote.client.inputs import Inputs, written
from noisevote.client.options import body_of

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `body` is None where there is none to send."""

    path: str
    read: Callable[[bytes], T]
    body: Mapping[str, Any] | None = None

    @property
    def method(self) -> str:
        """Of HTTP."""
        return "GET" if self.body is None else "POST"


def predict(model: str, inputs: Inputs, options: Mapping[str, Any]) -> Call[Answer]:
    """Ask for votes on inputs."""
    return Call(_path(model, options, "predict"), read_answer, {"inputs": written(inputs)} | body_of(options))


def certify(model: str, inputs: Inputs, options: Mapping[str, Any]) -> Call[Certificates]:
    """Ask for certified radii of inputs."""
    body = {"inputs": written(inputs)} | body_of(options)
    return Call(_path(model, options, "certify"), lambda content: _read_whole(Certificates, content), body)


def plan(model: str, options: Mapping[str, Any]) -> Call[Planning]:
    """Ask how to run a model on noisy hardware."""
    return Call(_path(model, options, "plan"), lambda content: _read_whole(Planning, content), body_of(options))


def models() -> Call[tuple[Model, ...]]:
    """Ask what is served."""

    def read(content: bytes) -> tuple[Model, ...]:
        given = _object(content).get("models")
        if not isinstance(given, list):
            raise AnswerError("the answer has no list of models")
        return tuple(_checked(Model, each | {"raw": each}) for each in given)

    return Call("/v1/models", read)


def model(name: str, version: str | None) -> Call[Model]:
    """Ask what one model is."""
    return Call(_path(name, {"version": version}), lambda content: _read_whole(Model, content))


def read_answer(content: bytes) -> Answer:
    """An answer of `…/predict`.

    Raises:
        AnswerError: it is none.
    """
    return _read_whole(Answer, content)


def prediction_event(event: Event) -> Standing | Answer:
    """What an event of `…/predict/stream` says.

    Raises:
        RefusedError: the voting failed after it had begun.
        AnswerError: it is no such event.
    """
    if event.name == "votes":
        return Standing(tuple(_checked(Prediction, each) for each in _object(event.data)["predictions"]))
    _refuse_failure(event)
    return read_answer(event.data)


def certificate_event(event: Event) -> Certificate | Certificates:
    """What an event of `…/certify/stream` says; see `prediction_event` for errors."""
    if event.name == "votes":
        return _checked(Certificate, _object(event.data)["certificates"][0])
    _refuse_failure(event)
    return _read_whole(Certificates, event.data)


def refusal(status: int, content: bytes, retry_after_s: float | None) -> RefusedError | None:
    """The server's own refusal; None where the body is none of ours."""
    try:
        problem = json.loads(content)["error"]
        return RefusedError(status, str(problem["code"]), str(problem["message"]), retry_after_s)
    except (ValueError, KeyError, TypeError):
        return None


def _refuse_failure(event: Event) -> None:
    if event.name == "error":
        raise refusal(0, event.data, None) or AnswerError("the stream ended with an error that says nothing")


def _path(name: str, options: Mapping[str, Any], route: str = "") -> str:
    version = options.get("version")
    parts = [
        "/v1/models",
        quote(name, safe=""),
        *(["versions", quote(str(version), safe="")] if version else []),
        route,
    ]
    return "/".join(part for part in parts if part)


def _read_whole(kind: type[T], content: bytes) -> T:
    given = _object(content)
    return _checked(kind, given | {"raw": given})


def _object(content: bytes) -> dict[str, Any]:
    try:
        given = json.loads(content)
    except ValueError as error:
        raise AnswerError(f"the answer is no JSON: {content[:80]!r}") from error
    if not isinstance(given, dict):
        raise AnswerError(f"the answer is no JSON object: {content[:80]!r}")
    return given


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _checked(kind: type[T], given: Mapping[str, Any]) -> T:
    try:
        return cast("T", _adapter(cast("Any", kind)).validate_python(given))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise AnswerError(f"the answer is none of this API: {place}: {problem['msg']}") from error
