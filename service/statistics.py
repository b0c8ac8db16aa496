"""What became of requests and batches since the start, in sums: per version, as `GET /v2/…/stats` tells it."""

from collections import defaultdict
from dataclasses import dataclass, field

from noisevote.engine.session_key import SessionKey


@dataclass(slots=True)
class Sum:
    """How often something happened, and how many seconds it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count it once more, or so often."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class Phases:
    """Seconds of one request.

    Attributes:
        read: receiving, decoding and checking it.
        queue: waiting for its turn on the event loop, and from acceptance to its first batch.
        compute: from there to its last vote.
        respond: deciding and writing its answer, until that was handed to its connection.
    """

    read: float
    queue: float
    compute: float
    respond: float


@dataclass(slots=True)
class VersionStatistics:
    """Sums of one version. `last_ms` is when the last request was answered, in milliseconds since 1970; 0: never."""

    last_ms: int = 0
    inputs: int = 0
    success: Sum = field(default_factory=Sum)
    failed: Sum = field(default_factory=Sum)
    read: Sum = field(default_factory=Sum)
    queue: Sum = field(default_factory=Sum)
    compute: Sum = field(default_factory=Sum)
    respond: Sum = field(default_factory=Sum)
    batches: dict[int, Sum] = field(default_factory=lambda: defaultdict(Sum))

    def answered(self, inputs: int, phases: Phases, seconds: float, now_ms: int) -> None:
        """Count an answered request of so many inputs, which took so long in all."""
        self.last_ms = now_ms
        self.inputs += inputs
        self.success.add(seconds)
        self.read.add(phases.read)
        self.queue.add(phases.queue)
        self.compute.add(phases.compute)
        self.respond.add(phases.respond)


class Statistics:
    """The sums of all versions. Belongs to the event loop."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], VersionStatistics] = defaultdict(VersionStatistics)

    def of(self, model: str, version: str) -> VersionStatistics:
        """The sums of a version, which may have none yet."""
        return self._versions[model, version]

    def note_batch(self, session: SessionKey, rows: int, seconds: float) -> None:
        """Count a batch that was computed."""
        self.of(session.model, session.version).batches[rows].add(seconds)
