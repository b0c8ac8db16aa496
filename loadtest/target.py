"""The server that is asked, and what is sent to it."""

import base64
import json
import math
import random
import struct
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from pydantic import BaseModel, Field, ValidationError

from noisevote.loadtest.arrivals import SEED
from noisevote.loadtest.errors import InputError, TargetError
from noisevote.loadtest.phase import Frozen, Order, Phase

TIMEOUT_S: Final = 10
DIGIT: Final = Path(__file__).resolve().parent.parent / "examples" / "digit-7.png"
DIGIT_MODEL: Final = "mnist-cnn"


class InputShape(BaseModel):
    """What of a manifest's input is needed to make one up; the rest is left unread."""

    shape: Annotated[tuple[int, ...], Field(min_length=1)]
    value_range: tuple[float, float]


class _Manifest(BaseModel):
    input: InputShape


class Description(BaseModel):
    """What of `GET /v1/models/{name}` is needed."""

    name: str
    version: str
    manifest: _Manifest


class SentInput(Frozen):
    """The input of every request, and where it is from."""

    origin: str
    body: dict[str, str]


class Target:
    """A model at a server's address."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url.rstrip("/")
        self.path = f"/v1/models/{quote(model, safe='')}"

    def describe(self) -> Description:
        """What the server says of the model.

        Raises:
            TargetError: it cannot be reached, does not serve the model, or says something else.
        """
        if not self.url.lower().startswith(("http://", "https://")):
            raise TargetError(self.url, "no address that begins with http:// or https://")
        request = Request(f"{self.url}{self.path}", headers={"accept": "application/json"})
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return Description.model_validate_json(answer.read())
        except HTTPError as error:
            with error:
                raise TargetError(self.url, f"{self.path} answers {error.code}{_message(error.read())}") from error
        except (OSError, HTTPException) as error:
            raise TargetError(self.url, str(getattr(error, "reason", error))) from error
        except ValidationError as error:
            raise TargetError(self.url, f"{self.path} answers something else than a model's description") from error

    def order(self, phase: Phase, sent: SentInput) -> Order:
        """The phase with what is to be sent for it. Requests have no seed: the server draws one for each."""
        common = {"inputs": [sent.body], "sigma": phase.sigma, "stop": {"rule": phase.rule}}
        bodies = {votes: json.dumps(common | {"votes": votes}) for votes in phase.votes}
        return Order(phase=phase, path=f"{self.path}/predict", bodies=bodies)


def choose_input(model: str, shape: InputShape, file: Path | None) -> SentInput:
    """A given image; or else the example's digit, where the model and the file are there; or else random values.

    Raises:
        InputError: the given file cannot be read.
    """
    if file is None and model == DIGIT_MODEL and DIGIT.exists():
        file = DIGIT
    if file is None:
        return SentInput(origin="random values", body=_random_values(shape))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(file, error.strerror or str(error)) from error
    return SentInput(origin=file.name, body={"image": base64.b64encode(content).decode()})


def _random_values(shape: InputShape) -> dict[str, str]:
    """Inside the value range by a margin that rounding to float32 does not use up."""
    drawn = random.Random(SEED)
    low, high = shape.value_range
    values = [low + (high - low) * (0.001 + 0.998 * drawn.random()) for _ in range(math.prod(shape.shape))]
    return {"b64": base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode(), "dtype": "float32"}


def _message(content: bytes) -> str:
    """What an error of ours says; nothing of any other body."""
    try:
        answer: Any = json.loads(content)
        return f": {answer['error']['message']}"
    except (ValueError, TypeError, KeyError):
        return ""
