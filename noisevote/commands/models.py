"""`noisevote models`: what a server serves."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from noisevote.client import Model
from noisevote.console.asking import client_of, print_json, told
from noisevote.console.flags import add_server, command_parser
from noisevote.console.table import table

ABOUT: Final = "list what a server serves, or show one model"
EXTRA: Final = None


def parser() -> argparse.ArgumentParser:
    """A model, or all of them."""
    flags = command_parser("models", "List the models that a server serves, or show one with its variants.")
    flags.add_argument("model", nargs="?", help="name of a model")
    flags.add_argument("--model-version", metavar="VERSION", help="a version of it (default: the newest)")
    add_server(flags)
    return flags


def main(arguments: Sequence[str]) -> int:
    """List models. Returns the exit status."""
    asked = parser().parse_args(arguments)
    return told("models", lambda: _list(asked))


def _list(asked: argparse.Namespace) -> int:
    with client_of(asked) as client:
        if asked.model is not None:
            model = client.model(asked.model, asked.model_version)
            if asked.json:
                print_json(model.raw)
            else:
                print("\n".join(_described(model)))
            return 0
        models = client.models()
    if asked.json:
        print_json({"models": [model.raw for model in models]})
    else:
        rows = [("model", "version", "input", "classes", "variants")]
        rows += [
            (each.name, each.version, _shape(each), str(len(each.manifest.classes)), ", ".join(each.variants))
            for each in models
        ]
        print("\n".join(table(rows)))
    return 0


def _described(model: Model) -> Iterator[str]:
    manifest = model.manifest
    low, high = manifest.input.value_range
    yield f"{model.name} {model.version}: {manifest.title}"
    yield f"versions: {', '.join(model.versions)}"
    yield f"input: {_shape(model)}, {low:g} … {high:g}"
    yield f"classes: {', '.join(manifest.classes)}"
    rows = [("variant", "noise while training", "sigma", "parameters", "noisy layers", "certifies at sigma")]
    for each in manifest.variants:
        if each.name in model.variants:
            certifies = "" if each.certifies is None else f"{each.certifies:g}"
            size = f"{each.parameters:,}", str(each.layers)
            rows.append((each.name, each.noise, f"{each.sigma_train:g}", *size, certifies))
    yield from table(rows)
    for name, reason in model.refused.items():
        yield f"refused: {name}: {reason}"
    if model.policy is not None:
        yield f"policy: {', '.join(f'{route}: {rules}' for route, rules in model.policy.items())}"


def _shape(model: Model) -> str:
    return "×".join(map(str, model.manifest.input.shape))
