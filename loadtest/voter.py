"""The Locust user that asks for votes. Importing this patches the process with gevent: see generator.py."""

from collections.abc import Callable
from random import Random
from time import perf_counter
from typing import ClassVar, Final

import orjson
from gevent import sleep
from gevent.pool import Group
from locust import FastHttpUser, task
from locust.exception import StopUser

from noisevote.loadtest.arrivals import SEED, poisson
from noisevote.loadtest.phase import Order
from noisevote.loadtest.sample import ANSWERED, Sample

# Connections of an open loop's user. A request that comes when all are in use waits, and its latency counts meanwhile.
CONNECTIONS: Final = 1000


class Voter(FastHttpUser):
    """A client of a closed loop, or all clients of an open one, by its order.

    `ordered` makes the subclasses. All users of one draw from one source.
    """

    abstract = True
    concurrency = CONNECTIONS
    order: ClassVar[Order]
    random: ClassVar[Random]
    began: ClassVar[float]

    @staticmethod
    def tell(sample: Sample) -> None:
        """Hear of a request that is over. Locust's own statistics have it in any case."""

    def on_start(self) -> None:
        """Nothing is under way."""
        phase = self.order.phase
        self._asking = Group()
        self._dues = poisson(phase.load.rate, phase.seconds, self.random) if phase.load.kind == "open" else None

    @task
    def ask(self) -> None:
        """One request."""
        if self._dues is not None:
            self._ask_when_due(next(self._dues, None))
            return
        now = self._now()
        if now >= self.order.phase.seconds:
            raise StopUser
        self._ask(self._votes(), due=now)

    def on_stop(self) -> None:
        """Leave no request behind."""
        self._asking.kill()

    def _ask_when_due(self, due: float | None) -> None:
        """In a greenlet of its own, so that the next one is sent when it is due, too, and waits for no answer."""
        if due is None:
            self._asking.join()
            raise StopUser
        sleep(max(0.0, due - self._now()))
        self._asking.spawn(self._ask, self._votes(), due)

    def _ask(self, votes: int, due: float) -> None:
        started = self._now()
        with self.client.post(
            self.order.path,
            data=self.order.bodies[votes],
            headers={"content-type": "application/json"},
            name=f"{votes} votes",
            catch_response=True,
        ) as response:
            finished = self._now()
            # Locust's own statistics count from when it was due, too.
            response.request_meta["response_time"] = 1e3 * (finished - due)
            outcome = str(response.status_code) if response.status_code else type(response.error).__name__
            used = _votes_used(response.content) if outcome == ANSWERED else 0
        type(self).tell(
            Sample(votes=votes, due=due, started=started, finished=finished, outcome=outcome, votes_used=used)
        )

    def _votes(self) -> int:
        return self.random.choice(self.order.phase.votes)

    def _now(self) -> float:
        return perf_counter() - self.began


def ordered(url: str, order: Order, tell: Callable[[Sample], None]) -> type[Voter]:
    """Users that carry out an order, from now on, and tell of each request that is over."""
    described = {"host": url, "order": order, "random": Random(SEED), "began": perf_counter()}
    return type("Ordered", (Voter,), described | {"tell": staticmethod(tell)})


def _votes_used(content: bytes) -> int:
    return sum(prediction["votes_used"] for prediction in orjson.loads(content)["predictions"])
