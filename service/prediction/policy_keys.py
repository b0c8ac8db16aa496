"""Every key that a request can have, by the routes of a model: the vocabulary of policies."""

import math
from collections.abc import Mapping
from typing import Final, Literal

from noisevote.noise_op.contract import NOISE_KINDS
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.prediction.options import MAX_SIGMA, PRECISIONS, RETURNS, VoteOptions
from noisevote.service.prediction.policy_rules import Key
from noisevote.voting.certification import CERTIFICATE_RULES
from noisevote.voting.stopping import RULE_NAMES

Route = Literal["predict", "plan", "certify"]
ROUTES: Final[tuple[Route, ...]] = ("predict", "plan", "certify")

_DEFAULTS: Final = VoteOptions()
_CERTIFY: Final = CertifyRequest(1, lambda _: NotImplemented)
DELTA: Final = 0.05


def _number(default: float | None = None, least: float = 0, most: float = math.inf) -> Key:
    return Key(default, "number", least, most)


def _count(default: int | None = None, least: int = 1) -> Key:
    return Key(default, "integer", least)


def _text(default: str | None = None, choices: tuple[str, ...] = ()) -> Key:
    return Key(default, "text", choices=choices)


STREAM: Final = Key(False, "flag")
# Every key that a request can have, route by route; `inputs` counts them, `rows` are inputs times votes. `version` and
# `stream` are parts of the path. A test holds the schemas of all protocols against this.
KEYS: Final[Mapping[Route, Mapping[str, Key]]] = {
    "predict": {
        "inputs": _count(1),
        "rows": _count(),
        "version": _text(),
        "stream": STREAM,
        "sigma": _number(_DEFAULTS.sigma, most=MAX_SIGMA),
        "noise": _text(_DEFAULTS.noise, NOISE_KINDS),
        "votes": _count(_DEFAULTS.votes),
        "reads": _count(_DEFAULTS.reads),
        "seed": _count(least=0),
        "first_vote": _count(_DEFAULTS.first_vote, least=0),
        "stop": _text("fixed", RULE_NAMES),
        "delta": _number(DELTA, most=1),
        "alpha": _number(_DEFAULTS.alpha, most=1),
        "deadline_ms": _number(),
        "priority": _count(_DEFAULTS.priority),
        "variant": _text(_DEFAULTS.variant),
        "precision": _text(choices=PRECISIONS),
        "return": _text("label", RETURNS),
        "top_k": _count(),
        "preprocess": Key(_DEFAULTS.preprocess, "flag"),
    },
    "plan": {
        "version": _text(),
        "sigma": _number(most=MAX_SIGMA),
        "noise": _text("multiplicative", NOISE_KINDS),
        "accuracy": _number(most=1),
        "products": _count(),
        "layer_times": _count(),
        "execution": _text(),
        "max_votes": _count(),
        "max_reads": _count(100),
        "variants": Key(None, "list"),
        "by": _text("estimate"),
        "alpha": _number(0.05, most=1),
    },
    "certify": {
        "inputs": _count(1),
        "rows": _count(),
        "version": _text(),
        "stream": STREAM,
        "n0": _count(_CERTIFY.n0),
        "n": _count(_CERTIFY.n),
        "alpha": _number(_CERTIFY.alpha, most=1),
        "radius": _number(),
        "rule": _text(_CERTIFY.rule, CERTIFICATE_RULES),
        "deadline_ms": _number(),
        "variant": _text(),
    },
}
# The same key in other words.
ALIASES: Final = {"snr_db": "sigma"}
