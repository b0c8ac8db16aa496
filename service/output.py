"""What the process says, on streams that may be gone or full; neither is a reason to end, or for a traceback."""

import logging
import os
from typing import TextIO

from noisevote.service.rest.access_log import JsonFormatter


def say(line: str, stream: TextIO | None) -> None:
    """Print a line, if somebody can have it."""
    if stream is None:  # closed before Python began
        return
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        logging.getLogger(__name__).warning("%s cannot be written: %s", stream.name, error.strerror)
        _let_go(stream)


def log_to_stderr(level: str, form: str) -> None:
    """Send what is logged to standard error, as text or as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if form == "json" else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.raiseExceptions = False  # a log that cannot be written would say so with a traceback, to nobody


def _let_go(stream: TextIO) -> None:
    """Send the rest to nowhere: Python writes what is left at its end, and would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
