"""`noisevote inject`: noise into ONNX files."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "put noise after every product of an ONNX classifier"
EXTRA: Final = "onnx"


def parser() -> argparse.ArgumentParser:
    """A file, and what of it is analog."""
    from noisevote.evaluation.inject import command_parser  # noqa: PLC0415  # of an extra

    return command_parser()


def main(arguments: Sequence[str]) -> int:
    """Inject noise. Returns the exit status."""
    from noisevote.evaluation.inject import main as inject  # noqa: PLC0415  # of an extra

    return inject(arguments)
