"""How many replicas the waiting votes need. Pure, and importable without Ray, whose controller runs it.

Requests say little about the work that waits, as one may ask for a single vote and the next for a million; rows
(votes of any inputs) cost about the same each.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

METRIC: Final = "queued_rows"


class Context(Protocol):
    """What is used of the context that Ray Serve gives a policy."""

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """What replicas reported, averaged over the look-back period: by name, then by replica."""

    @property
    def target_num_replicas(self) -> int:
        """Replicas that there should be now."""


def replicas_wanted(queued: Sequence[float], target: int, rows_per_replica: int) -> int:
    """Replicas that leave each at most `rows_per_replica` of the queued rows; at least one.

    Args:
        queued: rows that wait or run on each replica that has reported them.
        target: replicas that there should be now; stays where nothing was reported, which is no sign of idleness.
        rows_per_replica: what one of them works off in an acceptable time.
    """
    return max(1, math.ceil(sum(queued) / rows_per_replica)) if queued else target


class QueuedRows:
    """The policy for Ray Serve, which itself keeps to its bounds of replicas and waits out its delays."""

    def __init__(self, rows_per_replica: int) -> None:
        self._rows_per_replica = rows_per_replica

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        """Replicas wanted; nothing has to be remembered."""
        reported = (context.aggregated_metrics or {}).get(METRIC, {})
        return replicas_wanted(list(reported.values()), context.target_num_replicas, self._rows_per_replica), {}
