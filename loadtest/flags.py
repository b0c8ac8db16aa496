"""Flags that the command and the locustfile share."""

import argparse
from pathlib import Path

from noisevote.loadtest.target import DIGIT_MODEL


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, and what it is sent."""
    parser.add_argument("--model", default=DIGIT_MODEL, help=f"name of a served model (default: {DIGIT_MODEL})")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help=f"PNG or JPEG to send (default: examples/digit-7.png to {DIGIT_MODEL}, random values to others)",
    )
