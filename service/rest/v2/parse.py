"""Says what the body of an inference request asks for: JSON, JSON with binary tensors after it, or one raw tensor.

Known to the process that reads long bodies: no FastAPI here.
"""

from itertools import accumulate
from typing import Any, Final

from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference import inputs
from noisevote.service.open_inference.call import InferenceCall, Tensor, WantedOutput
from noisevote.service.open_inference.request import as_prediction_request
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.rest.json_body import JsonLimits, read_object
from noisevote.service.rest.v2.schemas import InferRequest, InferTensor
from noisevote.service.settings import Settings
from noisevote.service.validation import shown

HEADER_LENGTH: Final = "inference-header-content-length"
BINARY_OUTPUT: Final = "binary_data_output"
# Digits of a length that are looked at; more than any body has.
MOST_DIGITS: Final = 18


def header_length(value: str | None) -> int | None:
    """How many bytes of a body are its JSON object, by the header that says so; None: all are.

    Raises:
        InvalidValueError: it is no number.
    """
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS):
        raise InvalidValueError(HEADER_LENGTH, f"{shown(value)} is no number of bytes")
    return int(value)


def parsed_bytes(body: bytes, length: int | None) -> int:
    """How many bytes of a body are parsed; the others are tensors as they are."""
    return len(body) if length is None else min(length, len(body))


def parse(body: bytes, settings: Settings, *, length: int | None) -> PredictionRequest:
    """What a body asks for whose first `length` bytes are a JSON object.

    Raises:
        ServiceError: the body cannot be used; the message names key and value.
    """
    return as_prediction_request(call_of(body, settings, length))


def call_of(body: bytes, settings: Settings, length: int | None) -> InferenceCall:
    """The same, before anything is made of its tensors and parameters."""
    if length == 0:
        return InferenceCall(None, {}, (Tensor(inputs.INPUT, inputs.DATATYPE, None, raw=body),), binary=True)
    if length is not None and length > len(body):
        raise InvalidValueError(HEADER_LENGTH, f"{length} is more than the {len(body)} bytes of the body")
    asked = read_object(InferRequest, body if length is None else body[:length], JsonLimits.of(settings))
    parameters = dict(asked.parameters or {})
    binary = _flag(parameters)
    outputs = [
        WantedOutput(
            each.name,
            each.parameters.classification,
            binary if each.parameters.binary_data is None else each.parameters.binary_data,
        )
        for each in asked.outputs or ()
    ]
    after = memoryview(body)[len(body) if length is None else length :]
    return InferenceCall(asked.id, parameters, _tensors(asked.inputs, after), tuple(outputs) or None, binary)


def _flag(parameters: dict[str, Any]) -> bool:
    """Take the flag out of the parameters that says how outputs are wanted."""
    flag = parameters.pop(BINARY_OUTPUT, None)
    if not isinstance(flag, bool | None):
        raise InvalidValueError(f"parameters.{BINARY_OUTPUT}", f"{shown(flag)} is neither true nor false")
    return bool(flag)


def _tensors(sent: list[InferTensor], after: memoryview) -> tuple[Tensor, ...]:
    """The tensors, of which binary ones follow one another after the JSON object."""
    sizes = [each.parameters.binary_data_size or 0 for each in sent]
    if sum(sizes) != len(after):
        problem = f"{sum(sizes)} bytes in all; {len(after)} follow the JSON object"
        raise InvalidValueError("inputs.parameters.binary_data_size", problem)
    ends = list(accumulate(sizes))
    return tuple(_tensor(each, after[end - size : end]) for each, size, end in zip(sent, sizes, ends, strict=True))


def _tensor(sent: InferTensor, raw: memoryview) -> Tensor:
    if sent.parameters.binary_data_size is None:
        return Tensor(sent.name, sent.datatype, tuple(sent.shape), data=sent.data)
    if sent.data is not None:
        raise InvalidValueError(f"inputs.{shown(sent.name)[1:-1]}.data", "beside binary_data_size; give one of the two")
    return Tensor(sent.name, sent.datatype, tuple(sent.shape), raw=raw)
