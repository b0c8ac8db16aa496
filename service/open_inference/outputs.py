"""The outputs of an answer: tensors by name, and the parameters that repeat it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from noisevote.service.open_inference.call import WantedOutput
from noisevote.service.open_inference.datatypes import BYTES, NAMES
from noisevote.service.prediction.answer import Answer
from noisevote.service.prediction.options import Returns
from noisevote.service.prediction.prepare import SEEDS, Prepared
from noisevote.voting.stopping import Confidence

# Every output, and from which amount of `VoteOptions.returns` on it is shown.
LEVELS: Final[Mapping[str, Returns]] = {
    "label": "label",
    "histogram": "histogram",
    "probability": "probabilities",
    "votes_used": "histogram",
    "lower_bound": "histogram",
    "abstain": "histogram",
    "complete": "histogram",
}
# What this protocol can show, from least to most.
SHOWN: Final[tuple[Returns, ...]] = ("label", "histogram", "probabilities")
PER_CLASS: Final = frozenset({"histogram", "probability"})
CLASSIFIED: Final = ("histogram", "probability")
DATATYPES: Final[Mapping[str, str]] = {
    "label": "INT64", "histogram": "INT64", "probability": "FP32", "votes_used": "INT64", "lower_bound": "FP32",
    "abstain": "BOOL", "complete": "BOOL",
}  # fmt: skip

# A request's runs, with their votes.
Answered = Sequence[tuple[Prepared, Answer]]


@dataclass(frozen=True)
class Output:
    """An output as it is sent: numbers [n, …], or BYTES in C order; `binary` or as JSON."""

    name: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[bytes]
    binary: bool

    @property
    def datatype(self) -> str:
        """Its name in the protocol."""
        return NAMES[self.values.dtype] if isinstance(self.values, np.ndarray) else BYTES


def level_of(outputs: Sequence[WantedOutput]) -> Returns:
    """How much of the votes these outputs show."""
    return max((LEVELS[output.name] for output in outputs), key=SHOWN.index, default="label")


def outputs_of(answered: Answered, wanted: Sequence[WantedOutput] | None, *, binary: bool) -> list[Output]:
    """The outputs that are wanted; None: all that may be shown, in `binary` form or not."""
    if wanted is None:
        shown = SHOWN.index(answered[0][0].options.returns)
        wanted = [WantedOutput(name, None, binary) for name, level in LEVELS.items() if SHOWN.index(level) <= shown]
    return [_output(answered, _leading(output, answered[0][0].options.top_k)) for output in wanted]


def _leading(wanted: WantedOutput, top_k: int | None) -> WantedOutput:
    """What shows no more than the leading classes, where the request or the model's policy says how many."""
    if top_k is None or wanted.name not in CLASSIFIED:
        return wanted
    return replace(wanted, classification=min(top_k, wanted.classification or top_k))


def _output(answered: Answered, wanted: WantedOutput) -> Output:
    values = np.concatenate([VALUES[wanted.name](answer) for _, answer in answered])
    if wanted.classification is None:
        return Output(wanted.name, values.shape, values, wanted.binary)
    classes = answered[0][0].served.manifest.classes
    count = min(wanted.classification, len(classes))
    ties = np.concatenate([answer.counted.tally.probabilities for _, answer in answered])
    rows = zip(values, ties, strict=True)
    texts = [text for row, tie in rows for text in classification(row, tie, classes, count)]
    return Output(wanted.name, (len(values), count), texts, wanted.binary)


def classification(values: NDArray[Any], ties: NDArray[np.int64], classes: Sequence[str], count: int) -> list[bytes]:
    """The largest values of an input as `value:index:label`; of equal ones the decision's own order holds."""
    order = np.lexsort((-ties, -values))[:count]  # stable: then the lower index
    return [f"{_number(values[index])}:{index}:{classes[index]}".encode() for index in order]


def _number(value: np.generic) -> str:
    return f"{value:f}" if isinstance(value, np.floating) else str(value)


def _bound(answer: Answer) -> NDArray[np.float32]:
    """The lower bound in float32, rounded down: what is larger would be no bound."""
    bound = answer.decisions.lower_bound
    rounded = bound.astype(np.float32)
    return np.asarray(np.where(rounded > bound, np.nextafter(rounded, np.float32(-1)), rounded))


VALUES: Final[Mapping[str, Callable[[Answer], NDArray[Any]]]] = {
    "label": lambda answer: answer.decisions.index.astype(np.int64),
    "histogram": lambda answer: answer.counted.tally.histogram,
    "probability": lambda answer: answer.counted.tally.mean_probabilities().astype(np.float32),
    "votes_used": lambda answer: answer.counted.tally.votes_used,
    "lower_bound": _bound,
    "abstain": lambda answer: answer.decisions.abstain,
    "complete": lambda answer: answer.counted.complete,
}
assert set(VALUES) == set(LEVELS) == set(DATATYPES)


def repeating(answered: Answered) -> dict[str, Any]:
    """What repeats the answer, as parameters. One that differs between inputs is a JSON list with a value for each.

    With the label alone a seed that was drawn is left out: whoever has the file would recompute the votes by it.
    """
    each = [_of_run(prepared) for prepared, _ in answered]
    if len(each) == 1:
        return each[0]
    sizes = [len(prepared.vote_request.inputs) for prepared, _ in answered]
    return {key: _common([run.get(key) for run in each], sizes, shared=key == "seed") for key in each[0]}


def _of_run(prepared: Prepared) -> dict[str, Any]:
    options, rule = prepared.options, prepared.vote_request.rule
    hides_seed = options.returns == "label" and options.seed is None
    return {
        "variant": prepared.variant.name,
        "sha256": prepared.variant.sha256,
        "operator": prepared.served.manifest.operator_version(prepared.variant),
        **({} if hides_seed else {"seed": prepared.vote_request.seed}),
        "first_vote": options.first_vote,
        "sigma": options.sigma,
        "noise": options.noise,
        "votes": options.votes,
        "reads": options.reads,
        "stop": rule.name,
        **({"delta": rule.delta} if isinstance(rule, Confidence) else {}),
        "alpha": options.alpha,
    }


def _common(values: list[Any], sizes: list[int], *, shared: bool) -> Any:
    """The value of all runs, or a list of the values of all inputs; a `shared` one counts on from input to input."""
    listed: list[Any] = []
    for value, size in zip(values, sizes, strict=True):
        listed += _counted(value, size) if shared else [value] * size
    same = _counted(values[0], len(listed)) if shared else [values[0]] * len(listed)
    return values[0] if listed == same else orjson.dumps(listed).decode()


def _counted(seed: int, inputs: int) -> list[int]:
    """The keys that so many inputs draw with."""
    return [(seed + index) % SEEDS for index in range(inputs)]
