"""Translates a call into the request that all protocols share."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference import inputs
from noisevote.service.open_inference.call import InferenceCall, Tensor, WantedOutput
from noisevote.service.open_inference.options import TENSORS, column, read_runs
from noisevote.service.open_inference.outputs import CLASSIFIED, LEVELS, level_of
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.validation import shown

# More are no request that anybody means, and each is looked at.
MOST_TENSORS: Final = 1 + len(TENSORS)
# Parameters by which Triton's clients ask for ways of streaming that a single answer has nothing of.
SWITCHES: Final = "triton_"


@dataclass(frozen=True)
class Note:
    """What the answer needs of the call: `outputs` None stands for all that may be shown, in `binary` form or not."""

    id: str | None
    outputs: tuple[WantedOutput, ...] | None
    binary: bool


def as_prediction_request(call: InferenceCall) -> PredictionRequest:
    """What a call asks for.

    Raises:
        InvalidValueError: it cannot be used; the message names key and value.
    """
    tensors = _by_name(call.inputs)
    tensor = tensors.pop(inputs.INPUT, None)
    if tensor is None:
        raise InvalidValueError(f"inputs.{inputs.INPUT}", "is missing")
    _refuse_impossible(call.outputs)
    number = inputs.count(tensor)
    columns = {name: column(each, number) for name, each in tensors.items()}
    parameters = {key: value for key, value in call.parameters.items() if not key.startswith(SWITCHES)}
    runs, given = read_runs(parameters, columns, number)
    options = runs[0].options
    _refuse_other_leading(call.outputs, options.top_k)
    if call.outputs is not None:
        level = level_of(call.outputs)
        runs = tuple(replace(run, options=replace(run.options, returns=level)) for run in runs)
        given |= {"return"}
    return PredictionRequest(
        runs[0].options,
        number,
        partial(inputs.decode, tensor, preprocess=options.preprocess),
        given,
        runs if len(runs) > 1 else (),
        Note(call.id, call.outputs, call.binary),
    )


def _by_name(sent: tuple[Tensor, ...]) -> dict[str, Tensor]:
    if len(sent) > MOST_TENSORS:
        raise InvalidValueError("inputs", f"{len(sent)} tensors; there are {MOST_TENSORS} at most")
    tensors: dict[str, Tensor] = {}
    for tensor in sent:
        if tensor.name in tensors:
            raise InvalidValueError("inputs", f"{shown(tensor.name)} is there twice")
        if tensor.name not in TENSORS and tensor.name != inputs.INPUT:
            known = ", ".join((inputs.INPUT, *TENSORS))
            raise InvalidValueError("inputs", f"{shown(tensor.name)} is not one of {known}")
        tensors[tensor.name] = tensor
    return tensors


def _refuse_other_leading(outputs: tuple[WantedOutput, ...] | None, top_k: int | None) -> None:
    """Nothing, where `top_k` is given beside outputs that show classes, and is not given twice."""
    if top_k is None or outputs is None:
        return
    if not any(output.name in CLASSIFIED for output in outputs):
        raise InvalidValueError("top_k", f"{top_k} beside outputs of which none is {' or '.join(CLASSIFIED)}")
    for output in outputs:
        if output.classification is not None:
            problem = f"{top_k} beside classification {output.classification} of {output.name}; give one of the two"
            raise InvalidValueError("top_k", problem)


def _refuse_impossible(outputs: tuple[WantedOutput, ...] | None) -> None:
    """Nothing, where every output that is wanted exists, once, and can be what is wanted of it."""
    if outputs is None:
        return
    if len({output.name for output in outputs}) < len(outputs):
        raise InvalidValueError("outputs", "one of them is there twice")
    for output in outputs:
        if output.name not in LEVELS:
            raise InvalidValueError("outputs", f"{shown(output.name)} is not one of {', '.join(LEVELS)}")
        if output.classification is not None and output.name not in CLASSIFIED:
            problem = f"of {output.name}; it can be had of {' and '.join(CLASSIFIED)}"
            raise InvalidValueError("outputs.classification", problem)
