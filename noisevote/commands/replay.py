"""`noisevote replay`: an answer's votes, cast once more and compared."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from noisevote.client import Answer, AnswerError, ClientError, InputError, Replay, UnrepeatableError
from noisevote.client.calls import read_answer
from noisevote.client.replay import CLOSE, as_program, compared, refuse_unrepeatable
from noisevote.console.asking import UNASKABLE, client_of, print_json, told
from noisevote.console.command import hint
from noisevote.console.flags import add_server, command_parser

ABOUT: Final = "cast an answer's votes once more, and compare them"
EXTRA: Final = None  # only `--on server` does without one
BESIDE_A_SERVER: Final = "verify"
# Of what differs, so many are told; --json has all.
MOST_TOLD: Final = 10


def parser() -> argparse.ArgumentParser:
    """An answer, its inputs, and where to cast the votes."""
    flags = command_parser(
        "replay",
        "Cast the votes of an answer of …/predict once more, and compare vote for vote.",
        "Exit status: 0 the answer repeats, 1 it does not, 2 that cannot be told.",
    )
    flags.add_argument("answer", type=Path, help="the answer, as noisevote predict --save writes it")
    flags.add_argument(
        "--input", type=Path, required=True, action="append", metavar="FILE", help="what was sent; once for each file"
    )
    flags.add_argument(
        "--on",
        choices=["server", "process", "stock"],
        default="server",
        help="where: on the server, in this process as the server computes it, or on the function body that the file "
        "carries, in a stock ONNX Runtime (server)",
    )
    flags.add_argument("--model-store", type=Path, metavar="FOLDER", help="of published models, for process and stock")
    add_server(flags)
    return flags


def main(arguments: Sequence[str]) -> int:
    """Replay an answer. Returns the exit status."""
    asked = parser().parse_args(arguments)
    return told("replay", lambda: _replay(asked))


def _replay(asked: argparse.Namespace) -> int:
    try:
        answer = _answer_in(asked.answer)
        refuse_unrepeatable(answer)
        found = _on_server(answer, asked) if asked.on == "server" else _from_file(answer, asked)
    except UnrepeatableError as error:
        print(f"noisevote replay: {error}", file=sys.stderr)
        return UNASKABLE
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"--on {asked.on}: package {error.name} is not installed; {hint(BESIDE_A_SERVER)}"
        ) from error
    if asked.json:
        print_json(as_program(found))
    else:
        print("\n".join(_described(found)))
    return 0 if found.succeeded else 1


class UnavailableError(ClientError):
    """What it takes is not installed."""


def _answer_in(file: Path) -> Answer:
    try:
        return read_answer(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except AnswerError as error:
        raise InputError(f"{file}: {error}") from error


def _on_server(answer: Answer, asked: argparse.Namespace) -> Replay:
    with client_of(asked) as client:
        return client.replay(answer, asked.input)


def _from_file(answer: Answer, asked: argparse.Namespace) -> Replay:
    from noisevote.evaluation.replay import ReplayError, cast_again  # noqa: PLC0415  # of an extra

    store = asked.model_store or os.environ.get("NOISEVOTE_MODEL_STORE")
    try:
        again = cast_again(
            answer.raw, asked.input, None if store is None else Path(store), kernel=asked.on == "process"
        )
    except ReplayError as error:
        raise UnrepeatableError(str(error)) from error
    return compared(answer, read_answer(again))


def _described(found: Replay) -> Iterator[str]:
    answer = found.repeated
    votes = sum(prediction.votes_used or 0 for prediction in answer.predictions)
    yield f"{found.outcome}: {votes} votes on {len(answer.predictions)} inputs, seed {answer.seed}"
    yield from map(str, found.differences[:MOST_TOLD])
    if len(found.differences) > MOST_TOLD:
        yield f"and {len(found.differences) - MOST_TOLD} figures more"
    if found.close is None:
        yield "the server does not show each vote, so which of them are close is not known"
    elif found.close:
        yield f"close votes, less than {CLOSE:g} of the logits' scale between two classes: elsewhere they may be others"
        for each in found.close[:MOST_TOLD]:
            yield f"  input {each.input} vote {each.vote}: class {each.index}, margin {each.margin:.1e}"
        if len(found.close) > MOST_TOLD:
            yield f"  and {len(found.close) - MOST_TOLD} more"
