"""The record of a load test, from which its table and figure are made."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from noisevote.loadtest.errors import RecordError, problems
from noisevote.loadtest.load_profile import LoadProfile
from noisevote.loadtest.measurement import Measurement
from noisevote.loadtest.overhead import Overhead
from noisevote.loadtest.phase import Frozen, Part


class ClientMachine(Frozen):
    """What made the load."""

    python: str
    locust: str
    processors: int
    """that it may use; where the server runs on the same machine, it has to share them"""


class LoadTest(Frozen):
    """A load test: what was asked of whom, and each phase's figures in the order in which they ran."""

    url: str
    model: str
    version: str
    input: str
    """name of the file that was sent, or `random values`"""
    client: ClientMachine
    profile: LoadProfile
    measurements: tuple[Measurement, ...]
    overhead: Overhead | None
    """HTTP beside the same in one process, where it was measured"""

    def of(self, part: Part) -> Sequence[Measurement]:
        """The phases of a part."""
        return [found for found in self.measurements if found.phase.part == part]


def this_machine() -> ClientMachine:
    """The one that this runs on."""
    return ClientMachine(
        python=platform.python_version(), locust=version("locust"), processors=len(os.sched_getaffinity(0))
    )


def write(record: LoadTest, path: Path) -> None:
    """As JSON, which `read` reads."""
    path.write_text(f"{record.model_dump_json(indent=1)}\n")


def read(path: Path) -> LoadTest:
    """A record of `write`.

    Raises:
        RecordError: it cannot be read, or is something else.
    """
    try:
        return LoadTest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(path, error.strerror or str(error)) from error
    except ValidationError as error:
        raise RecordError(path, f"no record of a load test: {problems(error)}") from error
