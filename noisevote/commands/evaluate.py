"""`noisevote evaluate`: a model on one's own data."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "measure a published model on your own data"
EXTRA: Final = "onnx"


def parser() -> argparse.ArgumentParser:
    """A model, data, and what to measure."""
    from noisevote.evaluation.evaluate import command_parser  # noqa: PLC0415  # of an extra

    return command_parser()


def main(arguments: Sequence[str]) -> int:
    """Evaluate it. Returns the exit status."""
    from noisevote.evaluation.evaluate import main as evaluate  # noqa: PLC0415  # of an extra

    return evaluate(arguments)
