"""`noisevote publish`: a noisy file into the model store."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "examine a noisy ONNX file, measure it on your data, and publish it"
EXTRA: Final = "onnx"


def parser() -> argparse.ArgumentParser:
    """A file, what it is called, and what to measure."""
    from noisevote.evaluation.publish import command_parser  # noqa: PLC0415  # of an extra

    return command_parser()


def main(arguments: Sequence[str]) -> int:
    """Publish it. Returns the exit status."""
    from noisevote.evaluation.publish import main as publish  # noqa: PLC0415  # of an extra

    return publish(arguments)
