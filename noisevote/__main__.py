"""The command `noisevote`. Each of its commands has a room of its own, and packages that only it needs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final

COMMANDS: Final = {
    "serve": "serve the published models over HTTP",
    "key": "make an API key, and the line by which a server knows it",
    "verify": "recompute the certificates of an answer from the published file",
    "loadtest": "ask a running server for votes in many ways, and measure it",
}
# Commands that need an extra of their name; the others need what a client has.
EXTRAS: Final = frozenset({"serve", "loadtest"})
USUAL: Final = "serve"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without one, serve. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in {"-h", "--help", "--version"}:
        _parser().parse_args(given[:1])
    name = given.pop(0) if given and given[0] in COMMANDS else USUAL
    try:
        command = _load(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if missing.count(".") > 1 or missing == "noisevote":
            raise  # a file of a room, not a room or a package of others: a defect, and no matter of what is installed
        print(f"noisevote {name}: package {missing} is not installed; {_hint(name)}", file=sys.stderr)
        return 1
    return command(given)


def _load(name: str) -> Callable[[Sequence[str]], int]:
    """Import a command's room and no other: an image that serves has no other, and a load test loads no engine."""
    if name == "loadtest":
        from noisevote.loadtest.__main__ import main as loadtest  # noqa: PLC0415

        return loadtest
    if name == "key":
        from noisevote.service.key_command import main as key  # noqa: PLC0415

        return key
    if name == "verify":
        from noisevote.evaluation.verify import main as verify  # noqa: PLC0415

        return verify
    from noisevote.service.__main__ import main as serve  # noqa: PLC0415

    return serve


def _needs(name: str) -> str:
    return f"; {_hint(name)}" if name in EXTRAS else ""


def _hint(name: str) -> str:
    return f'pip install "noisevote[{name}]"'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="noisevote",
        usage="noisevote [-h | --version] [command] [flags]",
        description="\n".join(
            ["commands:", *(f"  {name:<10}{about}{_needs(name)}" for name, about in COMMANDS.items())]
        ),
        epilog=f"noisevote COMMAND --help lists a command's flags. Without a command: {USUAL}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"noisevote {version('noisevote')}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
