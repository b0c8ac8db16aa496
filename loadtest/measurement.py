"""From the requests of a phase to its figures."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from noisevote.loadtest.phase import Frozen, OpenLoop, Phase, Votes
from noisevote.loadtest.sample import ANSWERED, Sample, Turn


class Percentiles(Frozen):
    """Of milliseconds, by nearest rank: the least that so many per cent of the requests do not exceed.

    None where there are too few requests to tell it from the longest: fewer than 20 for p95, than 100 for p99.
    """

    p50: float
    p95: float | None
    p99: float | None
    longest: float


class Measurement(Frozen):
    """The figures of a phase. Votes and latencies are those of answered requests (status 200)."""

    phase: Phase
    seconds: float
    """from the phase's begin to its last answer or failure"""
    outcomes: dict[str, int]
    """requests by HTTP status, or by the name of the error that kept them from one"""
    votes_asked: int
    votes_used: int
    latency_ms: Percentiles | None
    """from when a request was due (open loop) or sent (closed loop) to its answer; None: nothing was answered"""
    latency_ms_by_votes: dict[Votes, Percentiles]
    """the same for each number of votes of a phase with several"""
    late_ms: Percentiles | None
    """open loop: from when a request was due until it was sent: the generator's own, and part of the latency"""
    client_processors: Annotated[float, Field(ge=0)]
    """processors that making the load kept busy: what the server lacked if it runs on the same machine"""

    @property
    def requests(self) -> int:
        """Sent."""
        return sum(self.outcomes.values())

    @property
    def answered(self) -> int:
        """With status 200."""
        return self.outcomes.get(ANSWERED, 0)

    @property
    def requests_per_second(self) -> float:
        """Answered."""
        return self.answered / self.seconds

    @property
    def votes_per_second(self) -> float:
        """Counted in answers."""
        return self.votes_used / self.seconds

    @property
    def saved_share(self) -> float | None:
        """Share of the votes asked for that the stopping rule made unnecessary; None: nothing was answered."""
        return 1 - self.votes_used / self.votes_asked if self.votes_asked else None


def measure(phase: Phase, turn: Turn) -> Measurement:
    """The figures of a phase; of one at a low rate in which no request came, those of nothing."""
    seconds = max((sample.finished for sample in turn.samples), default=phase.seconds)
    answered = [sample for sample in turn.samples if sample.outcome == ANSWERED]
    outcomes = Counter(sample.outcome for sample in turn.samples)
    by_votes = {votes: [sample for sample in answered if sample.votes == votes] for votes in sorted(set(phase.votes))}
    late = [sample.started - sample.due for sample in turn.samples]
    return Measurement(
        phase=phase,
        seconds=seconds,
        outcomes=dict(sorted(outcomes.items())),
        votes_asked=sum(sample.votes for sample in answered),
        votes_used=sum(sample.votes_used for sample in answered),
        latency_ms=percentiles(_latencies(answered)),
        latency_ms_by_votes=_each(by_votes) if len(by_votes) > 1 else {},
        late_ms=percentiles(late) if isinstance(phase.load, OpenLoop) else None,
        client_processors=turn.processor_seconds / seconds,
    )


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Of some times in seconds; None of none."""
    if not seconds:
        return None
    p50, p95, p99 = (1e3 * float(value) for value in np.percentile(seconds, [50, 95, 99], method="inverted_cdf"))
    count = len(seconds)
    return Percentiles(
        p50=p50,
        p95=p95 if count >= 20 else None,
        p99=p99 if count >= 100 else None,
        longest=1e3 * max(seconds),
    )


def _each(by_votes: dict[int, list[Sample]]) -> dict[int, Percentiles]:
    found = {votes: percentiles(_latencies(samples)) for votes, samples in by_votes.items()}
    return {votes: each for votes, each in found.items() if each is not None}


def _latencies(samples: Sequence[Sample]) -> list[float]:
    return [sample.finished - sample.due for sample in samples]
