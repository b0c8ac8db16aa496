"""Translates gRPC's messages into calls, and answers into messages."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from noisevote.service.errors import InvalidValueError
from noisevote.service.grpc import inference_pb2 as pb
from noisevote.service.open_inference.call import InferenceCall, Tensor, WantedOutput
from noisevote.service.open_inference.datatypes import BYTES, NUMBERS, packed
from noisevote.service.open_inference.outputs import Answered, outputs_of, repeating
from noisevote.service.open_inference.request import Note, as_prediction_request
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.settings import Settings
from noisevote.service.validation import shown

Kind = TypeVar("Kind", bound=Message)
# Which field of a tensor's contents holds elements of which datatypes; the others are sent as bytes alone.
CONTENTS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
CLASSIFICATION: Final = "classification"
# What clients leave in their parameters that says how HTTP would send a tensor.
OF_HTTP: Final = frozenset({"binary_data", "binary_data_size", "content_type"})
INT64_BITS: Final = 63


def read(kind: type[Kind], content: bytes) -> Kind:
    """A message of this kind.

    Raises:
        InvalidValueError: it is none.
    """
    try:
        message: Kind = kind.FromString(content)
    except DecodeError as error:
        raise InvalidValueError("message", f"it is no {kind.__name__} ({error})") from None
    return message


def parse(content: bytes, _: Settings) -> PredictionRequest:
    """What a message `ModelInferRequest` asks for.

    Raises:
        InvalidValueError: it cannot be used; the message names key and value.
    """
    return as_prediction_request(call_of(read(pb.ModelInferRequest, content)))


def call_of(request: Any) -> InferenceCall:
    """The call that a `ModelInferRequest` is; see `parse` for errors."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidValueError("raw_input_contents", f"{len(raw)} for {len(request.inputs)} inputs")
    contents: Iterable[bytes | None] = raw or [None] * len(request.inputs)
    return InferenceCall(
        request.id or None,
        {key: value_of(key, parameter) for key, parameter in request.parameters.items()},
        tuple(_tensor(sent, content) for sent, content in zip(request.inputs, contents, strict=True)),
        tuple(map(_wanted, request.outputs)) or None,
    )


def value_of(key: str, parameter: Any) -> Any:
    """The value of a parameter.

    Raises:
        InvalidValueError: it has none.
    """
    which = parameter.WhichOneof("parameter_choice")
    if which is None:
        raise InvalidValueError(f"parameters.{shown(key)[1:-1]}", "has no value")
    return getattr(parameter, which)


def _tensor(sent: Any, raw: bytes | None) -> Tensor:
    if unknown := set(sent.parameters) - OF_HTTP:
        key = min(unknown)
        problem = f"unknown key of {shown(sent.name)}; tensors are sent in the message"
        raise InvalidValueError(f"inputs.parameters.{shown(key)[1:-1]}", problem)
    if any(size < 0 for size in sent.shape):
        raise InvalidValueError(f"inputs.{shown(sent.name)[1:-1]}.shape", f"{list(sent.shape)} has a negative size")
    return Tensor(sent.name, sent.datatype, tuple(sent.shape), raw=_contents(sent) if raw is None else raw)


def _contents(sent: Any) -> bytes:
    """The bytes of a tensor whose elements are fields of the message."""
    field = CONTENTS.get(sent.datatype)
    if field is None:
        problem = f"{shown(sent.datatype)} has no contents; send it as raw_input_contents"
        raise InvalidValueError(f"inputs.{shown(sent.name)[1:-1]}.datatype", problem)
    values = getattr(sent.contents, field)
    if sent.datatype == BYTES:
        return packed(list(values))
    dtype = NUMBERS[sent.datatype]
    try:
        return np.array(values, dtype).tobytes()
    except OverflowError as error:
        raise InvalidValueError(f"inputs.{shown(sent.name)[1:-1]}.contents", str(error)) from None


def _wanted(sent: Any) -> WantedOutput:
    parameters = {key: value_of(key, each) for key, each in sent.parameters.items() if key not in OF_HTTP}
    count = parameters.pop(CLASSIFICATION, None)
    if parameters:
        key = next(iter(parameters))
        raise InvalidValueError(f"outputs.parameters.{shown(key)[1:-1]}", f"unknown key of {shown(sent.name)}")
    if count is not None and (type(count) is not int or count < 1):
        problem = f"{shown(count)} of {shown(sent.name)}; at least 1 is needed"
        raise InvalidValueError(f"outputs.{CLASSIFICATION}", problem)
    return WantedOutput(sent.name, count, binary=True)


def answer_of(answered: Answered) -> Any:
    """The `ModelInferResponse` of a request's runs, its outputs as bytes."""
    prepared = answered[0][0]
    note = prepared.note
    assert isinstance(note, Note)
    response = pb.ModelInferResponse(
        model_name=prepared.served.manifest.name, model_version=prepared.served.manifest.version, id=note.id or ""
    )
    for key, value in repeating(answered).items():
        _set(response.parameters[key], value)
    for output in outputs_of(answered, note.outputs, binary=True):
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        response.raw_output_contents.append(packed(output.values))
    return response


def _set(parameter: Any, value: Any) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int():
            setattr(parameter, "int64_param" if value < 2**INT64_BITS else "uint64_param", value)
        case float():
            parameter.double_param = value
        case _:
            parameter.string_param = value


def described(kind: type[Kind], content: Mapping[str, Any]) -> Kind:
    """A description as a message; what the message has no field for is left out."""
    message: Kind = ParseDict(content, kind(), ignore_unknown_fields=True)
    return message
