"""The command `noisevote`: finds the command that is meant, and says what to install where it lacks packages."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from noisevote.console.command import NAMES, USUAL, Command, find, hint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without one, serve. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in {"-h", "--help", "--version"}:
        _parser().parse_args(given[:1])
    name = given.pop(0) if given and not given[0].startswith("-") else USUAL
    if name not in NAMES:
        print(f"noisevote: {name!r} is no command; known are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    command = find(name)
    try:
        return command.main(given)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if missing.count(".") > 1 or missing == "noisevote":
            raise  # a file of a room, not a room or a package of others: a defect, and no matter of what is installed
        print(f"noisevote {name}: package {missing} is not installed; {hint(command.EXTRA)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    listed = (f"  {name:<10}{_described(find(name))}" for name in NAMES)
    parser = argparse.ArgumentParser(
        prog="noisevote",
        usage="noisevote [-h | --version] [command] [flags]",
        description="\n".join(["commands:", *listed]),
        epilog=f"noisevote COMMAND --help lists a command's flags. Without a command: {USUAL}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"noisevote {version('noisevote')}")
    return parser


def _described(command: Command) -> str:
    return f"{command.ABOUT}; {hint(command.EXTRA)}" if command.EXTRA else command.ABOUT


if __name__ == "__main__":
    sys.exit(main())
