"""The process that reads long bodies for the server, one after another.

Takes frames on standard input, a question and a body each, and writes an answer to each on standard output; ends
with its input. Whatever a body does to a process, it does it to this one.
"""

import pickle
import resource
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import BodyTooComplexError, ServiceError
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.prediction.prepare import refuse_too_much
from noisevote.service.settings import Settings

LENGTH: Final = struct.Struct("<Q")
# What the process needs by itself, and for each byte of the longest body.
OWN_BYTES: Final = 256 * 2**20
BYTES_PER_BYTE: Final = 24

# Says what a body asks for; raises `ServiceError`.
ParseBody = Callable[[bytes, Settings], PredictionRequest]


MOST_CHARACTERS: Final = 1000


class Defect(Exception):  # noqa: N818  # not an error of whoever sent the body
    """Reading a body failed in a way that nobody thought of."""


Answer = PredictionRequest | ServiceError | Defect


@dataclass(frozen=True)
class Question:
    """How a body is to be read: by which protocol, for which input of a model, within which settings."""

    parse: ParseBody
    spec: InputSpec
    settings: Settings


def read(question: Question, body: bytes) -> PredictionRequest:
    """What a body asks for, its inputs decoded.

    Raises:
        ServiceError: it cannot be used; the message names key and value.
    """
    try:
        asked = question.parse(body, question.settings)
        refuse_too_much(asked, question.settings)
        return replace(asked, decode=partial(_decoded, asked.decode(question.spec)))
    except MemoryError:
        raise BodyTooComplexError(f"body: reading {len(body)} bytes took more memory than is allowed") from None


def _decoded(inputs: NDArray[np.float32], _: InputSpec) -> NDArray[np.float32]:
    """In place of decoding."""
    return inputs


def write_frame(to: IO[bytes], content: bytes) -> None:
    """A frame: its length and its content."""
    to.write(LENGTH.pack(len(content)))
    to.write(content)
    to.flush()


def read_frame(source: IO[bytes]) -> bytes:
    """The next frame.

    Raises:
        EOFError: the other side has ended.
    """
    (size,) = LENGTH.unpack(_exactly(source, LENGTH.size))
    return _exactly(source, size)


def _exactly(source: IO[bytes], size: int) -> bytes:
    content = source.read(size)
    if len(content) != size:
        raise EOFError
    return content


def _answer(question: Question, body: bytes) -> Answer:
    try:
        return read(question, body)
    except ServiceError as error:
        return error
    except Exception as error:
        return Defect(f"{type(error).__name__}: {error}"[:MOST_CHARACTERS])


def _limit_memory(settings: Settings) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = OWN_BYTES + BYTES_PER_BYTE * settings.max_body_bytes
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def main() -> None:
    """Answer until the input ends."""
    while True:
        try:
            question = pickle.loads(read_frame(sys.stdin.buffer))  # from the server itself
            _limit_memory(question.settings)
            body = read_frame(sys.stdin.buffer)
        except EOFError:
            return
        write_frame(sys.stdout.buffer, pickle.dumps(_answer(question, body), protocol=5))
        del body
