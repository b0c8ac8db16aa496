"""Clients that each ask again when they are answered, for contenders that take turns."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Client = Callable[[], Awaitable[int]]
"""One request; returns the votes that were counted for it."""


@dataclass
class Turn:
    """What the clients got: seconds of each request, votes, and the processor seconds of this process meanwhile."""

    latencies: list[float] = field(default_factory=list)
    votes: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0

    @property
    def votes_per_second(self) -> float:
        """In answers."""
        return self.votes / self.seconds


@dataclass(frozen=True)
class TurnsTaken:
    """Turns that one contender took, one a round."""

    turns: Sequence[Turn]

    def votes_per_second(self) -> float:
        """Median over the rounds."""
        return statistics.median(turn.votes_per_second for turn in self.turns)

    def own_processors(self) -> float:
        """Processors that this process kept busy, median over the rounds."""
        return statistics.median(turn.own_seconds / turn.seconds for turn in self.turns)

    def ratio(self, base: "TurnsTaken") -> float:
        """Median over the rounds of (votes per second) ÷ (those of `base`), round by round."""
        pairs = zip(self.turns, base.turns, strict=True)
        return statistics.median(turn.votes_per_second / other.votes_per_second for turn, other in pairs)

    def percentile_ms(self, q: float) -> float:
        """Of the requests of all rounds."""
        return 1e3 * float(np.percentile([each for turn in self.turns for each in turn.latencies], q))


async def turn(clients: Sequence[Client], seconds: float) -> Turn:
    """Let the clients ask for so long, and wait for their last answers."""
    outcome = Turn()
    began, own_began = time.perf_counter(), time.process_time()

    async def keep_asking(ask: Client) -> None:
        while (sent := time.perf_counter()) - began < seconds:
            votes = await ask()
            outcome.votes += votes  # not in one line: it would add to what was there before the others' answers
            outcome.latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*map(keep_asking, clients))
    outcome.seconds, outcome.own_seconds = time.perf_counter() - began, time.process_time() - own_began
    return outcome


async def in_turns(contenders: Mapping[str, Sequence[Client]], rounds: int, seconds: float) -> dict[str, TurnsTaken]:
    """Let each contender's clients ask once a round, after a short round that is not counted.

    The order is turned round every time, so that a machine that gets slower does so for all alike.
    """
    for clients in contenders.values():
        await turn(clients, min(0.5, seconds))
    found: dict[str, list[Turn]] = {name: [] for name in contenders}
    for round_ in range(rounds):
        for name in list(contenders)[:: -1 if round_ % 2 else 1]:
            found[name].append(await turn(contenders[name], seconds))
    return {name: TurnsTaken(turns) for name, turns in found.items()}
