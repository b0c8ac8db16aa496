"""Commands that ask a server: which one, and how its errors are told."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from noisevote.client import Client, ClientError, InputError, Model, RefusedError
from noisevote.client.inputs import written

USUAL_MODEL: Final = "mnist-cnn"
FAILED, UNASKABLE, INTERRUPTED = 1, 2, 130


class UnclearError(ClientError):
    """What is asked for could be meant in several ways."""


def client_of(asked: argparse.Namespace) -> Client:
    """A client of the server that the flags name."""
    return Client(asked.url, None if asked.key_file is None else _key_in(asked.key_file), timeout_s=asked.timeout_s)


def told(command: str, ask: Callable[[], int]) -> int:
    """Run a command; what goes wrong is told in one line. Returns the exit status."""
    try:
        status = ask()
        sys.stdout.flush()
        return status
    except ClientError as error:
        print(f"noisevote {command}: {error}", file=sys.stderr)
        asked_wrong = isinstance(error, InputError | UnclearError)
        return UNASKABLE if asked_wrong or (isinstance(error, RefusedError) and error.status == 422) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def model_of(client: Client, asked: argparse.Namespace) -> Model:
    """The model that the flags name; without a name the only one, or the usual one."""
    if asked.model is not None:
        return client.model(asked.model, asked.model_version)
    served = {model.name: model for model in client.models()}
    if len(served) != 1 and USUAL_MODEL not in served:
        raise UnclearError(f"--model is missing; {client.url} serves {', '.join(served)}")
    found = served.get(USUAL_MODEL) or next(iter(served.values()))
    return client.model(found.name, asked.model_version) if asked.model_version else found


def given(asked: argparse.Namespace, *names: str) -> Mapping[str, Any]:
    """Values of flags, by name."""
    return {name: getattr(asked, name) for name in names}


def print_json(content: Any) -> None:
    """Print for programs."""
    print(json.dumps(content))


def read_inputs(paths: Sequence[str]) -> tuple[list[str], list[Any]]:
    """Names of the inputs and the inputs, of files that may hold several each."""
    names, inputs = [], []
    for path in paths:
        found = written(sys.stdin.buffer.read() if path == "-" else path)
        names += [path if len(found) == 1 else f"{path}[{number}]" for number in range(len(found))]
        inputs += found
    return names, inputs


def save(raw: Any, file: Path) -> None:
    """Write an answer.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        file.write_text(json.dumps(raw) + "\n")
    except OSError as error:
        raise InputError(f"--save {file}: {error.strerror or error}") from error


def _key_in(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise InputError(f"--key-file {file}: {error}") from error
    if not key or not key.isascii() or len(key.split()) != 1:
        raise InputError(f"--key-file {file}: holds no key, which is one line of letters and digits")
    return key
