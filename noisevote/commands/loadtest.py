"""`noisevote loadtest`: load tests of any server."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "ask a running server for votes in many ways, and measure it"
EXTRA: Final = "loadtest"


def parser() -> argparse.ArgumentParser:
    """The server, and the phases of the test."""
    from noisevote.loadtest.command import command_parser  # noqa: PLC0415  # of an extra

    return command_parser()[0]


def main(arguments: Sequence[str]) -> int:
    """Run a load test. Returns the exit status."""
    from noisevote.loadtest.__main__ import main as loadtest  # noqa: PLC0415  # of an extra

    return loadtest(arguments)
