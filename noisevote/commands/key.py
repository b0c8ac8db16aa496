"""`noisevote key`: API keys."""

import argparse
from collections.abc import Sequence
from typing import Final

ABOUT: Final = "make an API key, and the line by which a server knows it"
EXTRA: Final = None


def parser() -> argparse.ArgumentParser:
    """A name and scopes."""
    from noisevote.service.key_command import command_parser  # noqa: PLC0415  # the room that makes them

    return command_parser()


def main(arguments: Sequence[str]) -> int:
    """Make a key. Returns the exit status."""
    from noisevote.service.key_command import main as make  # noqa: PLC0415  # the room that makes them

    return make(arguments)
