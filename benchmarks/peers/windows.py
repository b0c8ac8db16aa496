"""One window: a server asked in one way for some seconds, each answer checked, and what comes out of it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.peers.asking import Answer, Group, ask
from benchmarks.peers.contenders import OURS, Histogram, Peer, Precision, our_body
from benchmarks.peers.programs import Program
from benchmarks.server_process import PATH

CLASSES: Final = 10
SEEDS: Final = 8
WARM_UP_S: Final = 0.5
DIGIT_LABEL: Final = 7
# At sigma 0.8 nine votes of ten tell the digit; a server that adds no noise has them all.
RIGHT_SHARE: Final = (0.8, 0.97)
ENOUGH_VOTES: Final = 1000  # to tell that from
STOPS_EARLY: Final = "exact"


class WrongAnswerError(Exception):
    """An answer is not what was asked for."""


@dataclass(frozen=True)
class Way:
    """A way of asking: clients and the votes that each of theirs asks for, and seconds of a window.

    Of several kinds of clients the first is the one whose answers are timed.
    """

    clients: tuple[tuple[int, int], ...]
    seconds: float

    @property
    def votes(self) -> set[int]:
        """All numbers of votes that are asked for."""
        return {votes for _, votes in self.clients}


ONE, TWENTY, HUNDRED, BESIDE_100, BESIDE_1000 = "1", "20", "100", "beside 100", "beside 1000"
WAYS: Final[Mapping[str, Way]] = {
    ONE: Way(((8, 1),), 3.0),
    TWENTY: Way(((8, 20),), 3.0),
    HUNDRED: Way(((4, 100),), 3.0),
    BESIDE_100: Way(((1, 1), (4, 100)), 5.0),
    BESIDE_1000: Way(((1, 1), (4, 1000)), 5.0),
}


@dataclass
class Contender:
    """A server asked for one kind of votes, in several ways.

    Attributes:
        name: for people, and in records.
        precision: of its graph.
        path: where it is asked.
        bodies: what it is asked, by votes.
        histogram: reads votes per class from an answer.
        ways: names of the ways that it is asked in.
        early: it may stop before all votes are cast.
        known: histograms that it must answer with (`early`: whose mode), by body.
    """

    name: str
    precision: Precision
    path: str
    bodies: Mapping[int, Sequence[bytes]]
    histogram: Histogram
    ways: tuple[str, ...]
    early: bool = False
    known: dict[bytes, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, peer: Peer) -> "Contender":
        """A peer. With bytes it is not asked for 1000 votes: what that shows, it shows with floats."""
        ways = (ONE, TWENTY, BESIDE_100) + ((BESIDE_1000,) if peer.precision == "float32" else ())
        bodies = {votes: [json.dumps(peer.body(votes)).encode()] for votes in _votes(ways)}
        return cls(peer.name, peer.precision, peer.path, bodies, peer.histogram, ways)

    @classmethod
    def ours(cls, precision: Precision, *, early: bool = False) -> "Contender":
        """Our server, asked for votes of this precision."""
        ways = (TWENTY,) if early else tuple(WAYS)
        bodies = {
            votes: [_encoded(votes, seed, precision, STOPS_EARLY if early else "fixed") for seed in range(SEEDS)]
            for votes in _votes(ways)
        }
        name = ", ".join([OURS, precision, *([STOPS_EARLY] if early else [])])
        return cls(name, precision, PATH, bodies, our_histogram, ways, early)

    def learn(self, url: str) -> None:
        """Ask our server for every histogram first, one by one: company must not change them."""
        for votes, bodies in self.bodies.items():
            for seed, body in enumerate(bodies):
                fixed = _encoded(votes, seed, self.precision, "fixed")
                (answer, *_) = ask(url, self.path, [Group(1, [fixed])], 0)
                self.known[body] = self._read(answer)

    def _read(self, answer: Answer) -> list[int]:
        if answer.status != 200:
            raise WrongAnswerError(f"{self.name} answers {answer.status}: {answer.content[:200]!r}")
        return self.histogram(orjson.loads(answer.content))

    def check(self, answer: Answer, votes: int) -> list[int]:
        """The histogram of an answer.

        Raises:
            WrongAnswerError: it is not what was asked for.
        """
        found = self._read(answer)
        cast = sum(found)
        if len(found) != CLASSES or min(found) < 0 or cast > votes or (cast < votes and not self.early):
            raise WrongAnswerError(f"{self.name}: {found} are not {votes} votes")
        known = self.known.get(answer.body, found)
        same = int(np.argmax(known)) == int(np.argmax(found)) if self.early else known == found
        if not same:
            raise WrongAnswerError(f"{self.name}: {found} is not what the same seed gave alone, {known}")
        return found


def our_histogram(answer: Any) -> list[int]:
    """Votes per class."""
    return list(answer["predictions"][0]["histogram"])


def _votes(ways: Sequence[str]) -> list[int]:
    return sorted(set().union(*(WAYS[way].votes for way in ways)))


def _encoded(votes: int, seed: int, precision: Precision, rule: str) -> bytes:
    return json.dumps(our_body(votes, seed, precision, rule)).encode()


def measured(
    contender: Contender, way: Way, url: str, program: Program, ask: Callable[..., list[Answer]] = ask
) -> dict[str, Any]:
    """Figures of one window, after a while that is not counted.

    Raises:
        WrongAnswerError: some answer is not what was asked for.
        ConnectionEndedError: some request got none.
    """
    groups = [Group(clients, contender.bodies[votes]) for clients, votes in way.clients]
    program_began, own_began, began = program.processor_seconds(), time.process_time(), time.perf_counter()
    answers = ask(url, contender.path, groups, WARM_UP_S + way.seconds)
    elapsed, own = time.perf_counter() - began, time.process_time() - own_began
    taken = program.processor_seconds() - program_began
    return {
        **_checked(contender, way, answers),
        **_figures(way, answers, began + WARM_UP_S),
        "client_processors": round(own / elapsed, 3),
        "server_processors": round(taken / elapsed, 3),
    }


def _checked(contender: Contender, way: Way, answers: Sequence[Answer]) -> dict[str, Any]:
    votes = [votes for _, votes in way.clients]
    total = np.sum([contender.check(answer, votes[answer.group]) for answer in answers], axis=0)
    cast, right = int(total.sum()), float(total[DIGIT_LABEL] / total.sum())
    if cast >= ENOUGH_VOTES and not contender.known and not RIGHT_SHARE[0] < right < RIGHT_SHARE[1]:
        raise WrongAnswerError(f"{contender.name}: {right:.3f} of its votes tell the digit")
    return {"answers": len(answers), "votes": cast, "right_votes": round(right, 4)}


def _figures(way: Way, answers: Sequence[Answer], began: float) -> dict[str, Any]:
    end = began + way.seconds
    rates = [_rate([each for each in answers if each.group == group], began, end) for group in range(len(way.clients))]
    # One that is under way when the window begins counts: of a slow server there may be no other.
    timed = [
        1e3 * (each.came - each.sent) for each in answers if each.group == 0 and began < each.came and each.sent < end
    ]
    p50, p99 = (float(np.percentile(timed, q)) for q in (50, 99))
    figures = {"requests_per_second": rates[0], "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
    if len(way.clients) == 1:
        return figures
    return {**figures, "large_per_second": rates[1], "small_ms": [round(each, 2) for each in timed]}


def _rate(answers: Sequence[Answer], began: float, end: float) -> float:
    """Answers a second; those under way at an end of the window count by the share of their time inside of it."""
    inside = (max(0.0, min(end, each.came) - max(began, each.sent)) / (each.came - each.sent) for each in answers)
    return round(sum(inside) / (end - began), 3)
