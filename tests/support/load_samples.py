"""Phases, turns and records made up for tests."""

from collections.abc import Sequence

from noisevote.loadtest.load_profile import LoadProfile
from noisevote.loadtest.measurement import measure
from noisevote.loadtest.overhead import Overhead, OverheadPoint
from noisevote.loadtest.phase import ClosedLoop, Load, OpenLoop, Part, Phase, Rule
from noisevote.loadtest.record import ClientMachine, LoadTest
from noisevote.loadtest.sample import Sample, Turn

CLOSED = ClosedLoop(clients=4)
OPEN = OpenLoop(rate=10.0)


def phase(part: Part = "votes", votes: Sequence[int] = (20,), rule: Rule = "fixed", load: Load = CLOSED) -> Phase:
    """A phase of two seconds."""
    return Phase(part=part, votes=tuple(votes), sigma=0.8, rule=rule, load=load, seconds=2.0)


def answer(due: float, finished: float, votes: int = 20, used: int | None = None, late: float = 0.0) -> Sample:
    """An answered request; without `used`, all votes were cast."""
    used = votes if used is None else used
    return Sample(votes=votes, due=due, started=due + late, finished=finished, outcome="200", votes_used=used)


def refusal(due: float, finished: float, outcome: str = "429") -> Sample:
    """A request without an answer."""
    return Sample(votes=20, due=due, started=due, finished=finished, outcome=outcome, votes_used=0)


def turn(*samples: Sample, processor_seconds: float = 0.5) -> Turn:
    """What the generator reports."""
    return Turn(samples=samples, processor_seconds=processor_seconds)


OVERHEAD = Overhead(
    clients=8,
    sigma=0.8,
    lanes=2,
    rounds=3,
    turn_seconds=2.0,
    points=tuple(
        OverheadPoint(
            votes=votes,
            http_votes_per_second=900.0,
            in_process_votes_per_second=1000.0,
            kept=0.9,
            client_processors=0.125,
        )
        for votes in (1, 20)
    ),
)


def load_test(overhead: Overhead | None = OVERHEAD) -> LoadTest:
    """A record in which every part has a phase, one of them without any answer."""
    profile = LoadProfile(votes=(1, 20), concurrency=(4,), sigmas=(0.8,))
    few = turn(*(answer(0.1 * i, 0.1 * i + 0.05, used=15) for i in range(30)))
    mixed = turn(*(answer(0.1 * i, 0.2 * i + 0.1, votes=votes) for i in range(10) for votes in (1, 20)))
    measurements = (
        measure(phase("warm-up"), few),
        measure(phase("votes", (1,)), turn(refusal(0.0, 0.1), refusal(0.1, 0.2, "ConnectionRefusedError"))),
        measure(phase("votes"), few),
        measure(phase("early stopping", rule="exact"), few),
        measure(phase("offered rate", load=OPEN), few),
        measure(phase("concurrency"), few),
        measure(phase("sigma", rule="exact"), few),
        measure(phase("mixed votes", (1, 20)), mixed),
    )
    return LoadTest(
        url="http://127.0.0.1:8000",
        model="mnist-cnn",
        version="1",
        input="digit-7.png",
        client=ClientMachine(python="3.11", locust="2.47", processors=2),
        profile=profile,
        measurements=measurements,
        overhead=overhead,
    )
