"""Trying a file before it is loaded: what is expected of it, and what the trial may take.

No ONNX Runtime here: the service speaks of trials without it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:  # a process that tries files starts in half the time without pydantic
    from noisevote.engine.footprint import Footprint
    from noisevote.model_store.manifest import Manifest, Variant


# Niceness of what loads beside models that are being served. At the lowest priority a good file could not keep its time
# under full load, and a thread that holds the interpreter could not get on with it.
BESIDE_PRIORITY: Final = 10


@dataclass(frozen=True)
class Expectation:
    """What a manifest says that a run can contradict: inputs' shape and value range, classes, the operator.

    `rows_per_run` is that of `Session`: the variant's.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    classes: int
    domain: str
    operator_version: int
    rows_per_run: int | None = None

    @classmethod
    def of(cls, manifest: "Manifest", variant: "Variant | None" = None) -> "Expectation":
        """What a manifest promises of a variant's file, or of each of its files."""
        low, high = manifest.input.value_range
        domain, version = manifest.operator.domain, manifest.operator.version
        if variant is None:
            return cls(manifest.input.shape, low, high, len(manifest.classes), domain, version)
        version = manifest.operator_version(variant)
        return cls(
            manifest.input.shape, low, high, len(manifest.classes), domain, version, rows_per_run=variant.rows_per_run
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Expectation":
        """The reverse of `as_dict`."""
        return cls(**{**values, "shape": tuple(values["shape"])})


@dataclass(frozen=True)
class TrialLimits:
    """What trying one file may take: seconds, and bytes of memory.

    `beside`: other models are being served, and have the processors before this.
    """

    seconds: float
    memory: int
    beside: bool = False


class Trial(Protocol):
    """Tries one file after another. Belongs to one thread, but for `abandon`."""

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> "Footprint | None":
        """Load a file and run it; on demand, tell how much memory its batches take, where that can be measured.

        Raises:
            BadModelError: it cannot be served, or takes more than the limits.
        """

    def abandon(self) -> None:
        """Give up whatever is tried now; nothing is tried any more. Any thread may call it."""

    def close(self) -> None:
        """Let go of what the trials needed."""
