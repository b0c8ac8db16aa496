"""`noisevote key NAME --scope predict`: a new key, shown once, and the line for the file of keys that servers read."""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from noisevote.service.callers import Scope
from noisevote.service.errors import InvalidValueError
from noisevote.service.rest.keys import key_line, new_key

SCOPES: Sequence[str] = get_args(Scope)


def main(arguments: Sequence[str]) -> int:
    """Make a key. Returns the exit status: 2 for a name that cannot be used.

    The line alone goes to standard output, so that `>> keys.jsonl` adds it; the key goes to standard error, for people.
    """
    asked = command_parser().parse_args(arguments)
    key = new_key()
    try:
        line = key_line(asked.name, asked.scope or ["predict"], key)
    except InvalidValueError as error:
        print(f"noisevote key: {error}", file=sys.stderr)
        return 2
    print(f"key of {asked.name}, shown this once; its holder sends it as 'Authorization: Bearer …':", file=sys.stderr)
    print(key, file=sys.stderr)
    print("line for the file that NOISEVOTE_KEYS_FILE names (no key can be made of it):", file=sys.stderr, flush=True)
    print(line)
    return 0


def command_parser() -> argparse.ArgumentParser:
    """The flags of `noisevote key`."""
    parser = argparse.ArgumentParser(
        prog="noisevote key",
        description="Make an API key, and the line by which a server knows it.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="of its holder, as logs and messages show it")
    parser.add_argument("--scope", action="append", choices=SCOPES, help="what it opens; may be repeated (predict)")
    return parser
