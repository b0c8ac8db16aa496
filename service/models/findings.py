"""Keeps what a start finds out about files, so that a later one on the same processor need not find it out again.

Which files passed their trial, and what batches took, time and memory. A convenience: whatever is wrong with what was
kept, the server tries, weighs and times anew, and says so in one line of its log.
"""

import logging
import os
import platform
import stat
import tempfile
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, Field, PositiveInt, ValidationError

from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.model_store.manifest import Manifest
from noisevote.service.scheduling.batch_size import BatchProfile

logger = logging.getLogger(__name__)

# Of curves and of files each, the newest; a store of some hundred networks.
MOST_KEPT: Final = 1000
LONGEST_FILE_BYTES: Final = 2**20
# A FIFO in its place is not waited for.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


Kind = TypeVar("Kind")
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Curve = tuple[tuple[PositiveInt, Seconds], ...]


class _Content(BaseModel):
    """The file: what all of it is about, curves of (rows, seconds) and footprints by name, and what passed its trial.

    A footprint is null where it could not be measured.
    """

    about: str
    curves: dict[str, Annotated[Curve, Field(min_length=1)]]
    footprints: dict[str, Footprint | None] = {}
    passed: list[str] = []


class _UnusableError(Exception):
    """What was kept is not to be used; the message says why."""


class Findings:
    """What was found out on this machine, by whatever names it.

    Files are trusted to have passed a trial, so what says so is used only where nobody else can have written it.

    Args:
        path: of the file; None: nothing is kept.
        about: what findings depend on beside files, this machine and this version, such as the engine's build and the
            most rows of a batch.
    """

    def __init__(self, path: Path | None, *about: object) -> None:
        self._path = path
        self._about = sha256(repr((processor(), version("noisevote"), about)).encode()).hexdigest()[:16]
        self._curves: dict[str, Curve] = {}
        self._footprints: dict[str, Footprint | None] = {}
        self._passed: dict[str, None] = {}  # in the order in which they came
        self._changed = False

    def read(self) -> None:
        """Take over what an earlier start kept."""
        if self._path is None:
            return
        try:
            kept = _Content.model_validate_json(_own_file(self._path))
            if kept.about != self._about:  # as after every update, or where servers with other settings share the file
                logger.info("timings: %s is of another processor, version or engine", self._path)
                return
        except FileNotFoundError:
            return
        except (OSError, ValidationError, _UnusableError) as error:
            logger.warning("timings: %s is not used: %s", self._path, _reason(error))
            return
        self._curves, self._footprints = kept.curves, kept.footprints
        self._passed = dict.fromkeys(kept.passed)

    def profile(self, name: str, measure: Callable[[], BatchProfile]) -> BatchProfile:
        """The profile of what is named so; measured where it is not kept."""
        if name in self._curves:
            return BatchProfile.of(self._curves[name])
        found = measure()
        self._curves[name] = found.curve
        self._changed = True
        return found

    def weighed(self, name: str) -> bool:
        """Whether the memory of what is named so was measured, now or at an earlier start."""
        return name in self._footprints

    def footprint(self, name: str) -> Footprint | None:
        """What was measured then; None: that it cannot be."""
        return self._footprints[name]

    def note_footprint(self, name: str, found: Footprint | None) -> None:
        """Keep it."""
        self._footprints[name] = found
        self._changed = True

    def passed(self, name: str) -> bool:
        """Whether what is named so passed its trial, now or at an earlier start."""
        return name in self._passed

    def note_passed(self, name: str) -> None:
        """Keep that it did."""
        self._passed[name] = None
        self._changed = True

    def write(self) -> None:
        """Keep what was found out, in a file that is whole at any time and that its owner alone may read and write."""
        if self._path is None or not self._changed:
            return
        kept = _Content(
            about=self._about,
            curves=_newest(self._curves),
            footprints=_newest(self._footprints),
            passed=list(self._passed)[-MOST_KEPT:],
        )
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(kept.model_dump_json())
                Path(temporary).replace(self._path)
            finally:
                Path(temporary).unlink(missing_ok=True)
            self._changed = False
        except OSError as error:
            logger.info("timings: they are not kept in %s: %s", self._path, error.strerror)


def _newest(kept: dict[str, Kind]) -> dict[str, Kind]:
    return dict(list(kept.items())[-MOST_KEPT:])


def _own_file(path: Path) -> bytes:
    """Content of a regular file that belongs to this process's user, and that no other may write."""
    descriptor = os.open(path, _FLAGS)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _UnusableError("it is no regular file")
        if status.st_uid != os.geteuid():
            raise _UnusableError("it belongs to another user")
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise _UnusableError("other users may write to it")
        if status.st_size > LONGEST_FILE_BYTES:
            raise _UnusableError(f"it holds more than {LONGEST_FILE_BYTES} bytes")
        return file.read(LONGEST_FILE_BYTES)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "it holds something else"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def processor() -> str:
    """What this machine computes with: its name, and what it can do."""
    info = Path("/proc/cpuinfo")
    try:
        lines = info.read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        lines = []
    told = {"model name", "cache size", "flags", "Features"}
    return "\n".join([platform.machine(), *(line for line in lines if line.partition(":")[0].strip() in told)])


def name_of(manifest: Manifest, *network: object) -> str:
    """What timings of a network of a version are kept under: other files have another name."""
    digests = sorted(variant.sha256 for variant in manifest.variants)
    return f"{manifest.name} {manifest.version} {sha256(repr((digests, network)).encode()).hexdigest()[:16]}"


def trial_of(file: str, expectation: Expectation, limits: TrialLimits) -> str:
    """What the trial of the file with that sha256 is kept under: what was asked of it, and what it might take."""
    return sha256(repr((file, expectation, limits.seconds, limits.memory)).encode()).hexdigest()
