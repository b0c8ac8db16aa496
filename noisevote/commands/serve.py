"""`noisevote serve`: the service."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

ABOUT: Final = "serve the published models over HTTP"
EXTRA: Final = "serve"


def parser() -> argparse.ArgumentParser:
    """A flag for each setting."""
    from noisevote.service.settings import settings_parser  # noqa: PLC0415  # of an extra

    return settings_parser()[0]


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit status."""
    from noisevote.service.importing import leanly  # noqa: PLC0415  # of an extra
    from noisevote.service.models.ahead import trial_ahead  # noqa: PLC0415
    from noisevote.service.settings import SettingsError, read_settings  # noqa: PLC0415

    ahead = None
    with suppress(SettingsError):  # which the server tells
        ahead = trial_ahead(read_settings(arguments))
    with leanly():
        from noisevote.service.__main__ import main as serve  # noqa: PLC0415
    return serve(arguments, ahead)
