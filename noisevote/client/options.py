"""What a request may choose, as keyword arguments. What is not given is left to the server, whose defaults count."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from noisevote.client.answers import NoiseKind, Stop

Rule = Literal["fixed", "exact", "confidence"]
Returns = Literal["label", "histogram", "probabilities", "votes"]


class PredictOptions(TypedDict, total=False):
    """Keys of `…/predict`; docs/api.md explains each.

    `version` asks a version other than the newest. `returns` is the key `return`. `stop` is a rule's name or a
    `Stop`. `also` holds further keys, for servers that know more than this client.
    """

    version: str | None
    sigma: float | None
    snr_db: float | None
    noise: NoiseKind | None
    votes: int | None
    reads: int | None
    seed: int | None
    first_vote: int | None
    stop: Rule | Stop | None
    alpha: float | None
    deadline_ms: float | None
    priority: int | None
    variant: str | None
    precision: Literal["float32", "int8", "any"] | None
    preprocess: bool | None
    returns: Returns | None
    top_k: int | None
    also: Mapping[str, Any] | None


class CertifyOptions(TypedDict, total=False):
    """Keys of `…/certify`; docs/certificates.md explains each."""

    version: str | None
    n0: int | None
    n: int | None
    alpha: float | None
    radius: float | None
    rule: Literal["fixed", "anytime"] | None
    deadline_ms: float | None
    variant: str | None
    also: Mapping[str, Any] | None


class PlanOptions(TypedDict, total=False):
    """Keys of `…/plan`; docs/api.md explains each. One of `accuracy`, `products` and `layer_times` is the goal."""

    version: str | None
    sigma: float | None
    snr_db: float | None
    noise: NoiseKind | None
    accuracy: float | None
    products: int | None
    layer_times: int | None
    execution: Literal["sequential", "pipelined", "parallel"] | None
    max_votes: int | None
    max_reads: int | None
    variants: Sequence[str] | None
    by: Literal["estimate", "lower_bound"] | None
    alpha: float | None
    also: Mapping[str, Any] | None


def body_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a body: what is given, by the server's names."""
    given = {key: value for key, value in options.items() if value is not None and key not in {"version", "also"}}
    if "returns" in given:
        given["return"] = given.pop("returns")
    if "stop" in given:
        given["stop"] = _stop(given["stop"])
    return given | dict(options.get("also") or {})


def _stop(rule: str | Stop) -> dict[str, Any]:
    stop = rule if isinstance(rule, Stop) else {"rule": rule}
    return stop if isinstance(stop, dict) else {key: value for key, value in vars(stop).items() if value is not None}
