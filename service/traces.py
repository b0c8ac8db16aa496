"""Who is told how a request spends its time; nobody, unless traces are wanted."""

from typing import Final, Protocol

from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.scheduling.workers import BatchResult


class Traces(Protocol):
    """Is told on the event loop. Times are in seconds of the performance counter."""

    def accepted(self, request: VoteRequest, rule: str | None = None) -> None:
        """A request was queued, by whoever runs now; `rule` is what its stopping rule is called, if not by its name."""

    def computed(self, result: BatchResult) -> None:
        """A batch was run and its votes are counted."""

    def decided(self, request: VoteRequest, counted: CountedVotes, began: float, ended: float) -> None:
        """A request's votes were all counted at `began`, and its answer was decided at `ended`."""

    def sliced(self, request: VoteRequest, votes: VoteRequest, counted: CountedVotes, ended: float) -> None:
        """Some votes on an input of a request for certificates were queued, and counted until `ended`."""

    def certified(self, request: VoteRequest, votes: int, began: float, ended: float) -> None:
        """The so many votes on an input were all counted at `began`, and its certificate was known at `ended`."""

    def close(self) -> None:
        """Send what is not yet sent; may wait for whoever receives it."""


class NoTraces:
    """Tells nobody."""

    def accepted(self, request: VoteRequest, rule: str | None = None) -> None:
        """Nothing."""

    def computed(self, result: BatchResult) -> None:
        """Nothing."""

    def decided(self, request: VoteRequest, counted: CountedVotes, began: float, ended: float) -> None:
        """Nothing."""

    def sliced(self, request: VoteRequest, votes: VoteRequest, counted: CountedVotes, ended: float) -> None:
        """Nothing."""

    def certified(self, request: VoteRequest, votes: int, began: float, ended: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


NO_TRACES: Final = NoTraces()
