"""Flags that several commands share. A flag wins over its variable, and that over the default."""

import argparse
import os
from pathlib import Path
from typing import Final

from noisevote.client.connection import KEY_VARIABLE, TIMEOUT_S, URL, URL_VARIABLE

MODEL_VARIABLE: Final = "NOISEVOTE_MODEL"
TIMEOUT_VARIABLE: Final = "NOISEVOTE_TIMEOUT_S"


def command_parser(name: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A command's parser, without flags of its own yet."""
    return argparse.ArgumentParser(prog=f"noisevote {name}", description=description, epilog=epilog, allow_abbrev=False)


def add_server(parser: argparse.ArgumentParser) -> None:
    """Which server, with which key, and in which form to print what it says."""
    parser.add_argument("--url", help=f"the server (variable {URL_VARIABLE}, default {URL})")
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"file that holds the API key (variable {KEY_VARIABLE}: the key)"
    )
    parser.add_argument(
        "--timeout-s",
        type=seconds,
        default=os.environ.get(TIMEOUT_VARIABLE) or str(TIMEOUT_S),
        metavar="SECONDS",
        help=f"longest time without anything from the server (variable {TIMEOUT_VARIABLE}, default {TIMEOUT_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print what the server answers, for programs")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, and which version of it."""
    parser.add_argument(
        "--model",
        default=os.environ.get(MODEL_VARIABLE) or None,
        metavar="NAME",
        help=f"a served model (variable {MODEL_VARIABLE}; default: the only one, or mnist-cnn)",
    )
    parser.add_argument("--model-version", metavar="VERSION", help="a version of it (default: the newest)")


def add_noise(parser: argparse.ArgumentParser) -> None:
    """The noise of one read."""
    parser.add_argument("--sigma", type=float, help="standard deviation of the noise")
    parser.add_argument("--snr-db", type=float, metavar="DB", help="instead of sigma: −20·log10(sigma)")
    parser.add_argument("--noise", choices=["multiplicative", "additive"], help="noise kind (multiplicative)")


def seconds(text: str) -> float:
    """A time above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0")
    return value
