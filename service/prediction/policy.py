"""What an operator fixes, bounds and leaves free of a model's requests, enforced once for all protocols.

A client who may choose sigma 0, the seed or the votes has no randomised defence before him. So under a policy a key
is what the policy says, and what it does not mention is forbidden: a request that gives it is refused with 403, and the
key keeps its default. Models without a policy are free.
"""

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from noisevote.service.errors import PolicyError
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.prediction.options import MAX_SIGMA, PredictionRequest, VoteOptions
from noisevote.service.prediction.policy_keys import ALIASES, DELTA, KEYS, ROUTES, Route
from noisevote.service.prediction.policy_rules import Key, Rule, problem_of, resolve
from noisevote.voting.stopping import Confidence, Exact, Fixed, StopRule

_DEFAULTS: Final = VoteOptions()
SAME: Final = 1e-9  # of two sigmas, one of which went through a root


# Without these an endpoint with a policy would serve without noise, or as many votes as one likes.
NEEDED: Final = ("sigma", "noise", "votes")

Rules = Mapping[str, Rule]


class PolicyFileError(Exception):
    """The file of policies cannot be used; the message names what of it."""


class Policy(BaseModel):
    """One model's policy: the rules of each route. A route that is left out is forbidden.

    Sigma is judged after reads: rules of it are about sigma/√reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    predict: dict[str, Rule] | None = Field(default=None)
    plan: dict[str, Rule] | None = Field(default=None)
    certify: dict[str, Rule] | None = Field(default=None)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for route in ROUTES:
            for name, rule in (self.rules(route) or {}).items():
                key = KEYS[route].get(name)
                problem = f"is no key; known are {', '.join(KEYS[route])}" if key is None else _problem(rule, name, key)
                if problem is not None:
                    raise ValueError(f"{route}.{name}: {problem}")
        if self.predict is not None:
            _refuse_unguarded(self.predict)
        return self

    def rules(self, route: Route) -> Rules | None:
        """The rules of a route; None: it is forbidden."""
        return {"predict": self.predict, "plan": self.plan, "certify": self.certify}[route]

    def version(self, route: Route, version: str | None, *, stream: bool = False) -> str | None:
        """The version that a request gets that comes by this path; None: the newest.

        Raises:
            PolicyError: the route, its stream, or the version is not allowed.
        """
        rules = self.rules(route)
        if rules is None:
            allowed = ", ".join(each for each in ROUTES if self.rules(each) is not None) or "none"
            raise PolicyError("route", f"{route}; this model's policy allows {allowed}")
        if stream or "stream" in rules:  # a path always says which it is
            resolve("stream", rules.get("stream"), stream, given=True)
        chosen = resolve("version", rules.get("version"), version, given=version is not None)
        return None if chosen is None else str(chosen)

    def prediction(self, asked: PredictionRequest) -> PredictionRequest:
        """The request as the policy has it, each of its inputs; see `resolve` for errors."""
        rules = self.predict or {}
        runs = tuple(replace(run, options=_judged(rules, asked, run.options)) for run in asked.runs)
        _resolve_rows(rules, sum(run.votes for run in runs))
        return replace(asked, options=runs[0].options, varied=runs if asked.varied else ())

    def certificates(self, asked: CertifyRequest) -> CertifyRequest:
        """The same for certificates."""
        rules = self.certify or {}
        names = ("n0", "n", "alpha", "radius", "rule", "deadline_ms", "variant")
        values = {"inputs": asked.inputs, **{key: getattr(asked, key) for key in names}}
        given = _given(asked.given, values, KEYS["certify"])
        found = {key: resolve(key, rules.get(key), values[key], given=key in given) for key in values}
        _resolve_rows(rules, asked.inputs * (int(found["n0"]) + int(found["n"])))
        return replace(asked, **{key: found[key] for key in names})

    def planned(self, values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """The values of a plan's keys; see `resolve` for errors."""
        rules, known = self.plan or {}, _given(frozenset(given), values, KEYS["plan"])
        return {key: resolve(key, rules.get(key), value, given=key in known) for key, value in values.items()}


@dataclass(frozen=True)
class Policies:
    """The policies of all models that have one."""

    by_model: Mapping[str, Policy]

    def of(self, model: str) -> Policy | None:
        """A model's policy; None: its requests are free."""
        return self.by_model.get(model)


def read_policies(path: Path | None) -> Policies:
    """The policies of a TOML or JSON file, `{model: {route: {key: rule}}}`; without a file none.

    Raises:
        PolicyFileError: it cannot be read, or says what cannot be meant.
    """
    if path is None:
        return Policies({})
    try:
        content = path.read_bytes()
        raw = orjson.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
        return Policies(TypeAdapter(dict[str, Policy]).validate_python(raw))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise PolicyFileError(f"{path}: {place}: {problem['msg'].removeprefix('Value error, ')}") from None
    except (OSError, ValueError) as error:
        raise PolicyFileError(f"{path}: {error}") from None


def _problem(rule: Rule, name: str, key: Key) -> str | None:
    """Bounds of `rows` need no default, because it is no key that a request gives."""
    return None if name == "rows" and rule != "free" else problem_of(rule, key)


def _refuse_unguarded(rules: Rules) -> None:
    """Refuse rules of predictions by which a margin or a noiseless answer would get out unseen."""
    if missing := [key for key in NEEDED if key not in rules]:
        raise ValueError(f"predict: says nothing of {', '.join(missing)}")
    if _possible(rules.get("return"), "label", "label") and not _only(rules.get("stop"), "fixed"):
        raise ValueError("predict.stop: where return may be label only fixed, or its time tells the margin")


def _possible(rule: Rule | None, default: str, value: str) -> bool:
    if rule is None:
        return default == value
    try:
        return bool(resolve("", rule, value, given=True) == value)
    except PolicyError:
        return False


def _only(rule: Rule | None, value: str) -> bool:
    return rule is None or (
        rule != "free" and not any(_possible(rule, value, each) for each in ("exact", "confidence"))
    )


def _judged(rules: Rules, asked: PredictionRequest, options: VoteOptions) -> VoteOptions:
    """The options of some inputs of a request as the rules have them."""
    values = _values_of(asked, options)
    given = _given(asked.given, values, KEYS["predict"])
    found = {key: resolve(key, rules.get(key), values[key], given=key in given) for key in values if key != "sigma"}
    sigma = _sigma(rules.get("sigma"), options.sigma, found["reads"], given="sigma" in given)
    known = {key: found[key] for key in ("noise", "votes", "reads", "seed", "first_vote", "alpha", "deadline_ms")}
    kept = {key: found[key] for key in ("priority", "variant", "precision", "top_k")}
    if found["top_k"] is not None and found["return"] == "label":
        raise PolicyError("top_k", f"{found['top_k']}; this model's policy shows the label alone")
    if found["preprocess"] != options.preprocess:  # inputs may have been decoded by now
        raise PolicyError("preprocess", f"{options.preprocess}; this model's policy wants {found['preprocess']}")
    return replace(
        options, sigma=sigma, rule=_stop(found["stop"], found["delta"]), returns=found["return"], **known, **kept
    )


def _values_of(asked: PredictionRequest, options: VoteOptions) -> dict[str, Any]:
    """The values of a prediction's keys that are not parts of its path."""
    names = (
        "sigma", "noise", "votes", "reads", "seed", "first_vote", "alpha", "deadline_ms", "priority", "variant",
        "precision", "top_k", "preprocess",
    )  # fmt: skip
    return {
        "inputs": asked.inputs,
        **{key: getattr(options, key) for key in names},
        "stop": options.rule.name,
        "delta": getattr(options.rule, "delta", DELTA),
        "return": options.returns if _chose_what_returns(asked) else "label",
    }


def _chose_what_returns(asked: PredictionRequest) -> bool:
    """Whether the request says what it wants shown: under a policy the default is less than without one."""
    return asked.options.returns != _DEFAULTS.returns if asked.given is None else "return" in asked.given


def _given(given: frozenset[str] | None, values: Mapping[str, Any], keys: Mapping[str, Key]) -> frozenset[str]:
    """The keys that a request gives, by the policy's names.

    Raises:
        PolicyError: one of them is unknown here.
    """
    if given is None:  # a protocol that does not say: what differs from the default was given
        return frozenset(key for key, value in values.items() if value != keys[key].default)
    named = {ALIASES.get(key, key) for key in given} - {"inputs"}
    if unknown := sorted(named - set(keys)):
        raise PolicyError(unknown[0], "this model's policy does not let requests choose it")
    return frozenset(named | {key for key in ("inputs",) if values.get(key, 1) != 1})


def _sigma(rule: Rule | None, sigma: float, reads: int, *, given: bool) -> float:
    """Sigma of one read, whose rule is about what averaging leaves of it."""
    root = math.sqrt(reads)
    left = sigma / root
    fixed = getattr(rule, "fixed", None)
    if fixed is not None and math.isclose(left, fixed, rel_tol=SAME):
        left = fixed
    found = float(resolve("sigma/√reads", rule, left, given=given))
    if given and found == left:
        return sigma
    if found * root > MAX_SIGMA:
        raise PolicyError("reads", f"{reads}; to leave sigma {found} they would need more than {MAX_SIGMA}")
    return found * root


def _resolve_rows(rules: Rules, rows: int) -> None:
    if "rows" in rules:
        resolve("inputs × votes", rules["rows"], rows, given=True)


def _stop(name: str, delta: float) -> StopRule:
    rules: dict[str, StopRule] = {"fixed": Fixed(), "exact": Exact()}
    return rules[name] if name in rules else Confidence(delta)
