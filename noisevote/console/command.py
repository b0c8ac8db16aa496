"""What a command is, and how it is found by its name.

A command is a file `noisevote/commands/<name>.py` with the attributes of `Command`, and a line in `NAMES`. Importing
the file loads nothing that an extra brings: `parser` and `main` import the room that they call.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Final, Protocol, cast

# In the order in which they are listed.
NAMES: Final[tuple[str, ...]] = (
    "serve",
    "models",
    "predict",
    "plan",
    "certify",
    "verify",
    "loadtest",
    "key",
)
USUAL: Final = "serve"


class Command(Protocol):
    """A command: a module of `noisevote/commands`."""

    ABOUT: str
    """what it does, as the list of commands says it: begins with a verb, in lower case"""
    EXTRA: str | None
    """the extra of the package that it needs; None: what a client has is enough"""

    def parser(self) -> argparse.ArgumentParser:
        """Its flags, as `--help` and the completion of shells show them; `prog` is `noisevote <name>`.

        Raises:
            ModuleNotFoundError: describing them takes packages that are not installed.
        """

    def main(self, arguments: Sequence[str]) -> int:
        """Run it with the arguments that follow its name. Returns the exit status.

        Status 0 is success, 1 that what was asked for is not so or did not work, 2 that it cannot be asked so.

        Raises:
            ModuleNotFoundError: it takes packages that are not installed.
        """


def find(name: str) -> Command:
    """The command of a name in `NAMES`."""
    return cast("Command", import_module(f"noisevote.commands.{name}"))


def hint(extra: str | None) -> str:
    """How to install what a command needs."""
    return f'pip install "noisevote[{extra}]"' if extra else "pip install noisevote"
