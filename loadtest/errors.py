"""Why a load test cannot be run, each as one line that names the key and the value."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

INSTALL = 'pip install "noisevote[loadtest]" (in a checkout: pip install -e ".[loadtest]")'


class LoadTestError(Exception):
    """A load test cannot be run."""


class MissingExtraError(LoadTestError):
    """A package of the extra `loadtest` is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"loadtest: package {package} is not installed; {INSTALL}")


class TargetError(LoadTestError):
    """The server cannot be asked, or does not know the model."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"url {url}: {why}")


class InputError(LoadTestError):
    """The file to send cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"input {path}: {why}")


class OutError(LoadTestError):
    """The results cannot be written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"out {path}: {why}")


class UnansweredError(LoadTestError):
    """Not one request of the warm-up was answered; going on would measure refusals."""

    def __init__(self, url: str, outcomes: Mapping[str, int]) -> None:
        counts = ", ".join(f"{outcome}: {count}" for outcome, count in outcomes.items())
        super().__init__(f"url {url}: no request of the warm-up was answered ({counts})")


class GeneratorEndedError(LoadTestError):
    """The process that makes the load ended before its phase."""

    def __init__(self, status: int) -> None:
        super().__init__(f"generator: the process that makes the load ended with status {status}")


class RecordError(LoadTestError):
    """A file is no record of the kind that is wanted."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"record {path}: {why}")


def problems(error: Exception) -> str:
    """In one line: of values that a model of pydantic refuses, each key with its value."""
    if not isinstance(error, ValidationError):
        return str(error)
    found: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        key, message = next(map(str, problem["loc"]), ""), problem["msg"].removeprefix("Value error, ")
        # A list with a value that is refused is reported itself, too.
        found.setdefault(key, f"{key}: {problem['input']!r}: {message}" if key else message)
    return "; ".join(found.values())
