"""`noisevote completion`: what a shell needs to complete commands, flags and files."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import shtab

from noisevote.console.command import NAMES, find
from noisevote.console.flags import command_parser

ABOUT: Final = "print the completion of a shell: bash, zsh or fish"
EXTRA: Final = None
SHELLS: Final = ("bash", "zsh", "fish")
INSTALL: Final = """add one of these to the shell's start-up file:
  bash  eval "$(noisevote completion bash)"
  zsh   eval "$(noisevote completion zsh)"
  fish  noisevote completion fish | source
Flags of commands whose packages are not installed are left out."""


def parser() -> argparse.ArgumentParser:
    """A shell."""
    flags = command_parser("completion", "Print what makes a shell complete noisevote.", INSTALL)
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument("shell", choices=SHELLS)
    return flags


def main(arguments: Sequence[str]) -> int:
    """Print it. Returns the exit status."""
    print(shtab.complete(whole_parser(), parser().parse_args(arguments).shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Every command with its flags, as one parser."""
    whole = argparse.ArgumentParser(prog="noisevote")
    whole.add_argument("--version", action="version", version=version("noisevote"), help="show the version")
    commands = whole.add_subparsers()
    for name in NAMES:
        about, described = find(name).ABOUT, _described(name)
        commands.add_parser(name, help=about, description=about, parents=described, add_help=not described)
    return whole


def _described(name: str) -> list[argparse.ArgumentParser]:
    """A command's parser, which completes files where files are meant; nothing where its packages are missing."""
    try:
        flags = parser() if name == "completion" else find(name).parser()
    except ModuleNotFoundError:
        return []
    for action in flags._actions:  # argparse has no other way to look at them
        if action.type is Path or action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # as shtab documents it
    return [flags]
