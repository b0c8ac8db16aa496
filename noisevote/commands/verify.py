"""`noisevote verify`: certificates, recomputed."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "recompute the certificates of an answer from the published file"
EXTRA: Final = "verify"


def parser() -> argparse.ArgumentParser:
    """An answer, its input, and where the file is."""
    from noisevote.evaluation.verify import command_parser  # noqa: PLC0415  # of an extra

    return command_parser()


def main(arguments: Sequence[str]) -> int:
    """Verify an answer. Returns the exit status."""
    from noisevote.evaluation.verify import main as verify  # noqa: PLC0415  # of an extra

    return verify(arguments)
