"""Bodies of requests and answers under /v2. The requests' are what is enforced; the answers' are what is documented."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from noisevote.service.open_inference.options import Options
from noisevote.service.validation import UINT64, Body, RequestBody

# Of a classification; more classes than a model has are all of them.
MOST_CLASSES: Final = 2**31 - 1


class InferParameters(Options):
    """Options of all inputs alike, and the form of the answer."""

    binary_data_output: bool = False
    """outputs that do not say otherwise come as binary tensors"""


class TensorParameters(RequestBody):
    """How a tensor was sent."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    """it is so many bytes after the JSON object, in the order of the tensors, and has no `data`"""
    content_type: str | None = None
    """for servers that decode; not looked at"""


class InferTensor(RequestBody):
    """The tensor `input`, or one with the values of an option."""

    name: str
    shape: list[Annotated[int, Field(ge=0, lt=2**31)]]
    """the first axis counts inputs"""
    datatype: str
    data: list[Any] | None = None
    """its elements, flat or nested"""
    parameters: TensorParameters = TensorParameters()


class OutputParameters(RequestBody):
    """How an output is wanted."""

    binary_data: bool | None = None
    """as a binary tensor; default: as `binary_data_output` says"""
    classification: Annotated[int, Field(ge=1, le=MOST_CLASSES)] | None = None
    """so many of its largest values, as BYTES `value:index:label`; of `histogram` and `probability`"""


class InferOutput(RequestBody):
    """An output that is wanted: label, histogram, probability, votes_used, lower_bound, abstain or complete."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(RequestBody):
    """Inputs and options as tensors, options as parameters, and which outputs are wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [{"name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [0.0] * 784}],
                    "parameters": {"sigma": 0.5, "votes": 20, "seed": 7},
                    "outputs": [{"name": "label"}, {"name": "histogram"}],
                }
            ],
        }
    )

    model_name: str | None = None
    """the path says it"""
    model_version: str | None = None
    """the path says it"""
    id: str | None = None
    """comes back with the answer"""
    parameters: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"anyOf": [{"$ref": "#/components/schemas/InferParameters"}]})
    ] = None
    inputs: Annotated[list[InferTensor], Field(min_length=1)]
    outputs: list[InferOutput] | None = None
    """default: all that may be shown"""


class SentTensor(Body):
    """An output, with `data` or, as a binary tensor, with their size in its parameters."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, int] | None = None


class Repeating(Body):
    """What repeats the answer. One that differs between inputs is a text, a JSON list with a value for each."""

    variant: str
    sha256: str
    operator: int
    seed: Annotated[int, Field(json_schema_extra=UINT64)] | str | None = None
    """left out where the label alone is shown and the seed was drawn"""
    first_vote: int | str
    sigma: float | str
    noise: str
    votes: int | str
    reads: int | str
    stop: str
    delta: float | str | None = None
    alpha: float | str


class InferResponse(Body):
    """The outputs that were wanted, and what repeats them."""

    id: str | None = None
    model_name: str
    model_version: str
    parameters: Repeating
    outputs: list[SentTensor]


class Live(Body):
    """The process runs."""

    live: bool


class Ready(Body):
    """Requests are accepted."""

    ready: bool


class UnreadyResponse(Ready):
    """Why they are not."""

    error: str


class ModelReady(Ready):
    """The model answers requests."""

    name: str


class ServerMetadata(Body):
    """The server, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Body):
    """A tensor; -1 in its shape is the number of inputs."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Body):
    """A model by its tensors. Every input but `input` is optional."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class StatisticsResponse(Body):
    """Sums since the start, in the form of Triton's statistics extension."""

    model_stats: list[dict[str, Any]]


class IndexRequest(RequestBody):
    """Which versions are wanted."""

    ready: bool = False
    """only those that answer requests"""


class IndexEntry(Body):
    """A version that is in the store."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str
    """why it is not ready, or why the last attempt to load it failed"""


class LoadParameters(RequestBody):
    """There are none: what would replace the published model, `config` and `file:…`, is refused."""


class LoadRequest(RequestBody):
    """Says nothing but that the model of the path is to be loaded."""

    parameters: LoadParameters = LoadParameters()


class UnloadParameters(RequestBody):
    """Models here depend on no others."""

    unload_dependents: bool = False


class UnloadRequest(RequestBody):
    """Says nothing but that the model of the path is to be unloaded."""

    parameters: UnloadParameters = UnloadParameters()


class MessageResponse(Body):
    """Every answer under /v2 that is not a success."""

    error: str
