"""`python -m noisevote.loadtest`, and the command `noisevote loadtest`."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from noisevote.loadtest.errors import MissingExtraError

NEEDED = ("locust", "matplotlib", "orjson", "pydantic_settings")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a load test, or say how to install what it takes. Returns the exit status."""
    for package in NEEDED:
        if find_spec(package) is None:
            print(f"noisevote {MissingExtraError(package)}", file=sys.stderr)
            return 1
    from noisevote.loadtest import command  # noqa: PLC0415  # it imports what may be missing

    return command.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
