"""What was measured, kept window by window, so that a run that was interrupted goes on where it was."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import machine

Window = dict[str, Any]


class OtherMachineError(Exception):
    """What is kept was measured elsewhere, or with other versions: it cannot be compared."""


class Record:
    """The windows in a file. `model` is name and version of what is served.

    Raises:
        OtherMachineError: they cannot be compared with what would be added.
    """

    def __init__(self, path: Path, model: str, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._begun = round(now())
        about = {"model": model, "machine": machine()}
        self._content: dict[str, Any] = (
            json.loads(path.read_text()) if path.exists() else {**about, "windows": [], "missing": {}}
        )
        kept = {name: self._content[name] for name in about}
        if kept != about:
            raise OtherMachineError(f"{path} was measured with {kept}, this is {about}: measure --fresh")

    @property
    def windows(self) -> list[Window]:
        """All of them: `round`, `run` (when it began), `contender`, `way` and its figures."""
        return list(self._content["windows"])

    @property
    def missing(self) -> Mapping[str, str]:
        """Why servers are left out."""
        return dict(self._content["missing"])

    def has(self, round_: int, contender: str, way: str) -> bool:
        """Whether a window was measured."""
        return any(
            (each["round"], each["contender"], each["way"]) == (round_, contender, way)
            for each in self._content["windows"]
        )

    def add(self, round_: int, contender: str, way: str, figures: Mapping[str, Any]) -> None:
        """Keep a window at once."""
        window = {"round": round_, "run": self._begun, "contender": contender, "way": way, **figures}
        self._content["windows"].append(window)
        self._content["missing"].pop(contender, None)
        self._save()

    def miss(self, contender: str, reason: str) -> None:
        """Note why a contender is left out."""
        self._content["missing"][contender] = reason
        self._save()

    def drop(self, contenders: Iterable[str]) -> None:
        """Forget what was measured of some."""
        gone = set(contenders)
        self._content["windows"] = [each for each in self._content["windows"] if each["contender"] not in gone]
        self._save()

    def _save(self) -> None:
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(self._content))
        written.replace(self._path)
