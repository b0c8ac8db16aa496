"""A request of the Open Inference Protocol as its transport has read it: tensors by name, and parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tensor:
    """A tensor that was sent.

    Attributes:
        name: of the model's input, or of an option.
        datatype: its name in the protocol, such as FP32.
        shape: the first axis counts inputs; None: one input in the model's own shape, which is all that was sent.
        data: its elements, flat or nested, as JSON has them.
        raw: its bytes instead, in C order, little-endian.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    data: list[Any] | None = None
    raw: memoryview | bytes | None = None


@dataclass(frozen=True)
class WantedOutput:
    """An output that was asked for: as it is, or as its `classification` largest values; `binary` or as JSON."""

    name: str
    classification: int | None = None
    binary: bool = False


@dataclass(frozen=True)
class InferenceCall:
    """A request; `outputs` is None where it does not say which it wants, and `binary` is how it wants them then."""

    id: str | None
    parameters: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[WantedOutput, ...] | None = None
    binary: bool = False
