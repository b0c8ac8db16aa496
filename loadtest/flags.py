"""Flags that the command and the locustfile share, and values on their way to a model of pydantic."""

import argparse
from pathlib import Path

from pydantic import BaseModel

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


def given_values(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, str | list[str]]:
    """The flags that were given, by the model's fields, as text: the model parses it. Lists have commas between."""
    given = {name: text for name, text in vars(options).items() if name in model.model_fields and text is not None}
    several = {name for name, field in model.model_fields.items() if isinstance(field.default, tuple)}
    return {name: text.split(",") if name in several else text for name, text in given.items()}
