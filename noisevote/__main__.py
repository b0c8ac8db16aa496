"""The command `noisevote`: `serve` and `loadtest`, each in a room of its own."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without one, serve. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Each command imports only its own room: the image that serves has no other, and a load test loads no engine.
    if given[:1] == ["loadtest"]:
        return _loadtest(given[1:])
    from noisevote.service.__main__ import main as serve  # noqa: PLC0415

    return serve(given)


def _loadtest(arguments: Sequence[str]) -> int:
    try:
        from noisevote.loadtest.__main__ import main as loadtest  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "noisevote.loadtest":
            raise
        print('noisevote loadtest is not part of this installation: pip install "noisevote[loadtest]"', file=sys.stderr)
        return 1
    return loadtest(arguments)


if __name__ == "__main__":
    sys.exit(main())
