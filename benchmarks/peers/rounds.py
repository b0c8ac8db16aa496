"""One round: every contender asked in every way, one after the other, and each answer checked."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

import numpy as np

from benchmarks.closed_loop import Client, Turn, turn
from benchmarks.connections import Connections
from benchmarks.peers.contenders import IMAGE, Histogram, Peer

OURS: Final = "noisevote"
SIGMA: Final = 0.8
CLASSES: Final = 10
CLIENTS: Final = 8
LARGE_CLIENTS: Final = 4
SEEDS: Final = 4
# With so many votes the digit is told rightly but once in some hundred times.
MANY: Final = 20
DIGIT_LABEL: Final = 7


class WrongAnswerError(Exception):
    """An answer is not what was asked for."""


@dataclass
class Contender:
    """A server that runs, what it is asked, and which histograms are known of it, by body."""

    name: str
    connections: Connections
    histogram: Histogram
    bodies: Mapping[int, Sequence[bytes]]  # by votes
    known: dict[bytes, list[int]] = field(default_factory=dict)
    mistaken: int = 0  # answers of many votes with another label

    @classmethod
    def of(cls, peer: Peer, url: str, votes: Iterable[int]) -> "Contender":
        """A peer that runs at a URL."""
        bodies = {each: [json.dumps(peer.body(each)).encode()] for each in votes}
        return cls(peer.name, Connections(url, peer.path), peer.histogram, bodies)

    @classmethod
    async def ours(cls, url: str, path: str, votes: Iterable[int]) -> "Contender":
        """Our server, whose histograms are asked for one by one first: company must not change them."""
        asked = {each: [json.dumps(_body(each, seed)).encode() for seed in range(SEEDS)] for each in votes}
        made = cls(OURS, Connections(url, path), lambda answer: list(answer["predictions"][0]["histogram"]), asked)
        for bodies in asked.values():
            for body in bodies:
                made.known[body] = await made.ask(body)
        return made

    async def ask(self, body: bytes) -> list[int]:
        """The histogram of an answer.

        Raises:
            WrongAnswerError: there is none.
        """
        status, content = await self.connections.post(body)
        if status != 200:
            raise WrongAnswerError(f"{self.name} answers {status}: {content[:200]!r}")
        return self.histogram(json.loads(content))

    def client(self, votes: int) -> Client:
        """One that asks for so many votes again and again, and checks what it gets."""
        bodies = cycle(self.bodies[votes])

        async def ask() -> int:
            body = next(bodies)
            found = await self.ask(body)
            if len(found) != CLASSES or min(found) < 0 or sum(found) != votes:
                raise WrongAnswerError(f"{self.name}: {found} are not {votes} votes")
            if self.known.get(body, found) != found:
                raise WrongAnswerError(f"{self.name}: {found} is not what the same seed gave alone")
            self.mistaken += votes >= MANY and int(np.argmax(found)) != DIGIT_LABEL
            return votes

        return ask


def _body(votes: int, seed: int) -> dict[str, Any]:
    return {"inputs": [{"image": IMAGE}], "sigma": SIGMA, "votes": votes, "seed": seed}


async def alone(contender: Contender, votes: int, seconds: float) -> dict[str, Any]:
    """Figures of clients that all ask for so many votes."""
    return _figures(await turn([contender.client(votes)] * CLIENTS, seconds))


async def beside(contender: Contender, votes: int, seconds: float) -> dict[str, Any]:
    """Figures of a client that asks for one vote beside others that ask for so many."""
    small, large = await asyncio.gather(
        turn([contender.client(1)], seconds), turn([contender.client(votes)] * LARGE_CLIENTS, seconds)
    )
    return {
        "small_ms": [round(1e3 * each, 2) for each in small.latencies],
        "large_per_second": len(large.latencies) / large.seconds,
    }


def _figures(found: Turn) -> dict[str, Any]:
    p50, p99 = (1e3 * float(np.percentile(found.latencies, q)) for q in (50, 99))
    return {
        "requests_per_second": len(found.latencies) / found.seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "client_processors": found.own_seconds / found.seconds,
    }
