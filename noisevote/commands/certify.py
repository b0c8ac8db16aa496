"""`noisevote certify`: radii within which decisions hold."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from noisevote.client import Certificate, Certificates, Client, Model, RefusedError
from noisevote.client.options import CertifyOptions
from noisevote.console.asking import UnclearError, client_of, given, print_json, read_inputs, save, told
from noisevote.console.flags import MODEL_VARIABLE, add_model, add_server, command_parser
from noisevote.console.screen import Screen

ABOUT: Final = "certify within which distance decisions hold"
EXTRA: Final = None


def parser() -> argparse.ArgumentParser:
    """Inputs, and every key of a request."""
    flags = command_parser(
        "certify",
        "Certify the decision on each input by votes under noise that nobody chose.",
        "Exit status: 0 every input has a certificate, 1 not all have or it failed, 2 it cannot be asked so.",
    )
    flags.add_argument("inputs", nargs="+", metavar="FILE", help="as of noisevote predict")
    add_model(flags)
    flags.add_argument("--n0", type=int, help="votes that select the class (100)")
    flags.add_argument("--n", type=int, help="votes that estimate its probability, at most (100000)")
    flags.add_argument("--alpha", type=float, help="error probability of each certificate (0.001)")
    flags.add_argument("--radius", type=float, help="the L2 radius wanted (as large as it gets)")
    flags.add_argument("--rule", choices=["fixed", "anytime"], help="anytime stops once the radius is decided (fixed)")
    flags.add_argument("--deadline-ms", type=float, metavar="MS", help="answer by then with the votes so far")
    flags.add_argument("--variant", help="name of a variant that certifies; needed where several do")
    flags.add_argument("--save", type=Path, metavar="FILE", help="write the answer there, for noisevote verify")
    add_server(flags)
    return flags


def main(arguments: Sequence[str]) -> int:
    """Certify. Returns the exit status."""
    asked = parser().parse_args(arguments)
    return told("certify", lambda: _certify(asked))


def _certify(asked: argparse.Namespace) -> int:
    names, inputs = read_inputs(asked.inputs)
    with client_of(asked) as client:
        model = certifying(client, asked)
        screen = Screen()
        if screen.live and not asked.json:
            answer = _watched(client, model, inputs, names, asked, screen)
        else:
            answer = client.certify(model.name, inputs, **_options(asked))
    if asked.save is not None:
        save(answer.raw, asked.save)
    if asked.json:
        print_json(answer.raw)
    else:
        described = [f"{name}: {_described(each)}" for name, each in zip(names, answer.certificates, strict=True)]
        facts = f"{answer.model} {answer.version} {answer.variant} | sigma {answer.sigma:g} | alpha {answer.alpha:g}"
        screen.end([*described, facts])
    return 1 if any(each.abstain for each in answer.certificates) else 0


def certifying(client: Client, asked: argparse.Namespace) -> Model:
    """The model that the flags name, or the only one that certifies."""
    if asked.model is not None:
        return client.model(asked.model, asked.model_version)
    able = [each for each in client.models() if any(variant.certifies for variant in each.manifest.variants)]
    if len(able) != 1:
        names = ", ".join(each.name for each in able) or "none"
        raise UnclearError(f"--model (or {MODEL_VARIABLE}) is missing; of the models of {client.url} certify: {names}")
    return able[0]


def _options(asked: argparse.Namespace) -> CertifyOptions:
    names = ("n0", "n", "alpha", "radius", "rule", "deadline_ms", "variant")
    options: Any = {"version": asked.model_version, **given(asked, *names)}
    found: CertifyOptions = options
    return found


def _watched(
    client: Client, model: Model, inputs: list[Any], names: list[str], asked: argparse.Namespace, screen: Screen
) -> Certificates:
    """The answer, with the certificates drawn as they grow; where a policy forbids streams, without."""
    standing: dict[int, Certificate] = {}
    try:
        for event in client.stream_certificates(model.name, inputs, **_options(asked)):
            if isinstance(event, Certificates):
                return event
            standing[event.input or 0] = event
            screen.draw([f"{names[number]}: {_described(each)}" for number, each in standing.items()])
    except RefusedError as error:
        if error.code != "forbidden" or not error.message.startswith("stream"):
            raise
    return client.certify(model.name, inputs, **_options(asked))


def _described(found: Certificate) -> str:
    votes = f"{found.count} of {found.votes_used} votes"
    if found.stopped_by is None:
        return f"{found.label}, radius {found.radius:.4f} so far, {votes}"
    if found.abstain:
        return f"no certificate ({found.stopped_by}), {found.label or 'no class'}, {votes}"
    return f"{found.label} within radius {found.radius:.4f}, {votes}"
