"""Keeps what batches took, time and memory, so that a later start on the same processor need not measure them again.

A convenience: whatever is wrong with what was kept, the server times anew, and says so at most in its log.
"""

import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import onnxruntime
from pydantic import TypeAdapter, ValidationError

from noisevote.engine.footprint import Footprint
from noisevote.model_store.manifest import Manifest
from noisevote.service.scheduling.batch_size import BatchProfile

logger = logging.getLogger(__name__)

# A store of some hundred networks; beyond it, and after any change of what timings depend on, the file begins anew.
MOST_KEPT: Final = 1000
LONGEST_FILE_BYTES: Final = 2**20
_CURVES: Final = TypeAdapter(dict[str, tuple[tuple[int, float], ...]])
_FOOTPRINTS: Final = TypeAdapter(dict[str, Footprint])
Curve = tuple[tuple[int, float], ...]


class KeptTimings:
    """What an engine took on this machine, by whatever names files and network.

    Args:
        path: of the file; None: nothing is kept.
        about: what timings depend on beside the file and this machine, such as the engine and the most rows of a batch.
    """

    def __init__(self, path: Path | None, *about: object) -> None:
        self._path = path
        self._about = sha256(repr((processor(), onnxruntime.__version__, about)).encode()).hexdigest()[:16]
        self._curves: dict[str, Curve] = {}
        self._footprints: dict[str, Footprint] = {}
        self._changed = False

    def read(self) -> None:
        """Take over what an earlier start kept."""
        if self._path is None or not self._path.is_file():
            return
        try:
            with self._path.open("rb") as file:
                kept = json.loads(file.read(LONGEST_FILE_BYTES))
            if kept["about"] == self._about:
                self._curves = _CURVES.validate_python(kept["curves"])
                self._footprints = _FOOTPRINTS.validate_python(kept.get("footprints", {}))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            logger.warning("timings: %s is not used: %s", self._path, type(error).__name__)

    def profile(self, name: str, measure: Callable[[], BatchProfile]) -> BatchProfile:
        """The profile of what is named so; measured where it is not kept."""
        curve = self._curves.get(name)
        if curve and all(rows > 0 and seconds > 0 for rows, seconds in curve):
            return BatchProfile.of(curve)
        found = measure()
        self._curves[name] = found.curve
        self._changed = True
        return found

    def footprint(self, name: str) -> Footprint | None:
        """The footprint of what is named so, if one is kept."""
        return self._footprints.get(name)

    def keep_footprint(self, name: str, found: Footprint) -> None:
        """Keep what was measured."""
        self._footprints[name] = found
        self._changed = True

    def write(self) -> None:
        """Keep what was measured, in a file that is whole at any time and readable for its owner alone."""
        if self._path is None or not self._changed or len(self._curves) > MOST_KEPT:
            return
        footprints = {name: asdict(footprint) for name, footprint in dict(self._footprints).items()}
        content: dict[str, Any] = {"about": self._about, "curves": self._curves, "footprints": footprints}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
            Path(temporary).replace(self._path)
        except OSError as error:
            logger.info("timings: they are not kept in %s: %s", self._path, error.strerror)


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
