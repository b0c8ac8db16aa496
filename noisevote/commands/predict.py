"""`noisevote predict`: inputs in, votes out, while they come in."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from noisevote.client import Answer, Client, Model, Prediction, RefusedError, Stop
from noisevote.client.options import PredictOptions
from noisevote.console.asking import client_of, given, model_of, print_json, read_inputs, save, told
from noisevote.console.bars import bar, bars, shortened, verdict
from noisevote.console.flags import add_model, add_noise, add_server, command_parser
from noisevote.console.screen import Screen

ABOUT: Final = "let noisy runs vote on pictures or arrays, and show how the votes fall"
EXTRA: Final = None
SHARE_CELLS: Final = 20


def parser() -> argparse.ArgumentParser:
    """Inputs, and every key of a request."""
    flags = command_parser("predict", "Run each input several times with noise, and let the runs vote.")
    flags.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="PNG or JPEG, .npy of inputs [n, *shape], .json of a request's body; - is a picture on standard input",
    )
    add_model(flags)
    add_noise(flags)
    flags.add_argument("--votes", type=int, help="runs of the network on each input (20)")
    flags.add_argument("--reads", type=int, help="averaged reads of each analog product (1)")
    flags.add_argument("--seed", type=int, help="of the noise (drawn, and told)")
    flags.add_argument("--first-vote", type=int, metavar="N", help="number of each input's first vote (0)")
    flags.add_argument("--stop", choices=["fixed", "exact", "confidence"], help="when there are votes enough (fixed)")
    flags.add_argument("--delta", type=float, help="error probability of --stop confidence (0.05)")
    flags.add_argument("--alpha", type=float, help="error probability of the bound and of abstaining (0.05)")
    flags.add_argument("--deadline-ms", type=float, metavar="MS", help="answer by then with the votes so far")
    flags.add_argument("--priority", type=int, help="share of the server beside other requests, 1 … 8 (1)")
    flags.add_argument("--variant", help="name of a variant (auto: the most accurate for this noise)")
    flags.add_argument("--precision", choices=["float32", "int8", "any"], help="of the variant (the server's choice)")
    flags.add_argument(
        "--preprocess", action="store_true", default=None, help="fit images to the model, as it declares"
    )
    flags.add_argument(
        "--return", dest="returns", choices=["label", "histogram", "probabilities", "votes"], help="what is shown"
    )
    flags.add_argument("--top-k", type=int, metavar="N", help="show the leading N classes instead of all")
    flags.add_argument("--save", type=Path, metavar="FILE", help="write the answer there, for noisevote replay")
    add_server(flags)
    return flags


def main(arguments: Sequence[str]) -> int:
    """Predict. Returns the exit status."""
    flags = parser()
    asked = flags.parse_args(arguments)
    if asked.delta is not None and asked.stop != "confidence":
        flags.error(f"--delta {asked.delta:g} is of --stop confidence")
    return told("predict", lambda: _predict(asked))


def _predict(asked: argparse.Namespace) -> int:
    names, inputs = read_inputs(asked.inputs)
    with client_of(asked) as client:
        model = model_of(client, asked)
        screen = Screen()
        if screen.live and not asked.json:
            answer = _watched(client, model, inputs, names, asked, screen)
        else:
            answer = client.predict(model.name, inputs, **_options(asked))
    if asked.save is not None:
        save(answer.raw, asked.save)
    if asked.json:
        print_json(answer.raw)
    else:
        screen.end([*_drawn(answer.predictions, names, model, answer.alpha, screen), _facts(answer)])
    return 0


def _options(asked: argparse.Namespace) -> PredictOptions:
    stop = None if asked.stop is None else Stop(asked.stop, asked.delta)
    names = ("sigma", "snr_db", "noise", "votes", "reads", "seed", "first_vote", "alpha", "deadline_ms", "priority",
             "variant", "precision", "preprocess", "returns", "top_k")  # fmt: skip
    options: Any = {"version": asked.model_version, "stop": stop, **given(asked, *names)}
    found: PredictOptions = options
    return found


def _watched(
    client: Client, model: Model, inputs: list[Any], names: list[str], asked: argparse.Namespace, screen: Screen
) -> Answer:
    """The answer, with the votes drawn as they come; where a policy forbids streams, without."""
    standing: dict[int, Prediction] = {}
    alpha = 0.05 if asked.alpha is None else asked.alpha
    try:
        for event in client.stream(model.name, inputs, **_options(asked)):
            if isinstance(event, Answer):
                return event
            standing |= {each.input: each for each in event.predictions if each.input is not None}
            shown = [standing[number] for number in sorted(standing)]
            screen.draw(list(_drawn(shown, [names[number] for number in sorted(standing)], model, alpha, screen)))
    except RefusedError as error:
        if error.code != "forbidden" or not error.message.startswith("stream"):
            raise
    return client.predict(model.name, inputs, **_options(asked))


def _drawn(
    predictions: Sequence[Prediction], names: Sequence[str], model: Model, alpha: float, screen: Screen
) -> Iterator[str]:
    """One input with a bar for each class, or several with a line each."""
    if len(predictions) == 1:
        yield f"{names[0]}: {verdict(predictions[0], alpha)}"
        yield from bars(predictions[0], model.manifest.classes, screen.columns, fine=screen.fine)
        return
    for name, prediction in zip(names, predictions, strict=True):
        share = "" if prediction.vote_share is None else bar(prediction.vote_share, SHARE_CELLS, fine=screen.fine)
        yield f"{shortened(name):<24} {share} {verdict(prediction, alpha)}"


def _facts(answer: Answer) -> str:
    drawn = "seed not shown" if answer.seed is None else f"seed {answer.seed}"
    noise = f"sigma {answer.sigma:g} {answer.noise}" + (f", {answer.reads} reads" if answer.reads > 1 else "")
    took = [] if answer.timing_ms is None else [f"{answer.timing_ms.total:.1f} ms"]
    return " | ".join([f"{answer.model} {answer.version} {answer.variant}", noise, drawn, *took])
