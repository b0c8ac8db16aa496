"""When idle workers are woken for what waits."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import QUICK_S, BatchResult, WorkerPool
from noisevote.voting.stopping import Fixed
from tests.support.engines import FakeEngine, fake_logits

KEY = SessionKey("tiny", "1", "v0")
CLASSES = 3
PATIENCE_S = 30


def request(votes: int = 1) -> VoteRequest:
    """One input."""
    return VoteRequest(KEY, np.zeros((1, 1), np.float32), CLASSES, (0.5, 0.0), 0, votes, Fixed())


class Held(FakeEngine):
    """Tells of each run, which waits until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.released = threading.Semaphore(0)
        self.rows: list[int] = []

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:  # noqa: ARG002  # there is one
        """Wait."""
        self.rows.append(len(feeds.row))
        self.begun.release()
        assert self.released.acquire(timeout=PATIENCE_S)
        return fake_logits(feeds, CLASSES)

    def begins(self) -> bool:
        """Whether another run begins."""
        return self.begun.acquire(timeout=PATIENCE_S)


class Lanes:
    """Two workers on an engine that is held."""

    def __init__(self, row_s: float | None, rows: int = 32) -> None:
        self.engine = Held()
        self.reported = threading.Semaphore(0)
        self.pool = WorkerPool(Scheduler(QueueLimits(1000, 10**6)), self.engine, 2, 32, clock=lambda: 0.0)
        if row_s is not None:
            self.pool.expect({KEY: BatchProfile(rows, row_s, ((rows, rows * row_s), (32, 32 * row_s)))})
        self.pool.start(self._report)

    def _report(self, done: BatchResult) -> None:
        assert not done.failed
        self.reported.release()

    def ask(self, *votes: int) -> None:
        """Add requests that one turn of the event loop has read."""
        for each in votes:
            self.pool.add(request(each))
        self.pool.wake()

    def release(self) -> None:
        """Let one run end, and wait until its votes are counted."""
        self.engine.released.release()
        assert self.reported.acquire(timeout=PATIENCE_S)

    def idle(self, count: int) -> bool:
        """Wait until so many workers wait for work."""
        while self.pool._idle != count:
            time.sleep(0.001)
        return True


@pytest.fixture
def lanes(request: pytest.FixtureRequest) -> Iterator[Lanes]:
    """Workers whose rows take as long as the parameter says."""
    made = Lanes(request.param)
    assert made.idle(2)
    yield made
    made.engine.released.release(1000)
    made.pool.close()


QUICK, SLOW = QUICK_S / 4, 4 * QUICK_S


@pytest.mark.parametrize("lanes", [QUICK], indirect=True)
def test_little_work_waits_for_the_worker_that_is_about_to_be_done(lanes: Lanes) -> None:
    """It is one batch then, and the other worker takes no time from the event loop."""
    lanes.ask(1)
    assert lanes.engine.begins()
    lanes.ask(1)
    lanes.ask(1, 1)
    assert lanes.idle(1)
    lanes.release()
    assert lanes.engine.begins()
    assert lanes.engine.rows == [1, 3]


@pytest.mark.parametrize("lanes", [QUICK], indirect=True)
def test_enough_work_wakes_another_worker(lanes: Lanes) -> None:
    """What takes a millisecond does not wait."""
    lanes.ask(1)
    assert lanes.engine.begins()
    lanes.ask(2, 2)
    assert lanes.engine.begins()
    assert lanes.engine.rows == [1, 4]


@pytest.mark.parametrize("lanes", [SLOW, None], indirect=True)
def test_rows_that_take_long_or_unknown_times_never_wait_for_a_busy_worker(lanes: Lanes) -> None:
    """Of a large network each row is worth a worker."""
    lanes.ask(1)
    assert lanes.engine.begins()
    lanes.ask(1)
    assert lanes.engine.begins()
    assert lanes.engine.rows == [1, 1]


@pytest.mark.parametrize("lanes", [QUICK], indirect=True)
def test_a_batch_that_is_not_short_keeps_nobody_waiting(lanes: Lanes) -> None:
    """One vote beside it has the idle worker at once."""
    lanes.ask(16)
    assert lanes.engine.begins()
    assert lanes.engine.begins()  # it is shared by both
    lanes.release()
    assert lanes.idle(1)
    lanes.ask(20)
    assert lanes.engine.begins()
    assert lanes.engine.rows[2] == 20
    lanes.release()
    assert lanes.idle(1)
    lanes.ask(1)
    assert lanes.engine.begins()


@pytest.mark.parametrize("lanes", [QUICK], indirect=True)
def test_a_request_is_shared_by_idle_workers_as_far_as_it_is_worth_them(lanes: Lanes) -> None:
    """Eight rows of a quarter of a millisecond are two milliseconds' work, three are not one."""
    lanes.ask(3)
    assert lanes.engine.begins()
    assert lanes.idle(1)
    lanes.release()
    assert lanes.idle(2)
    lanes.ask(8)
    assert lanes.engine.begins()
    assert lanes.engine.begins()
    assert lanes.engine.rows == [3, 4, 4]


def test_each_worker_computes_a_whole_request_while_others_wait() -> None:
    """Three of 20 rows, where a good batch has eight: the last one, behind which nobody waits, is cut."""
    lanes = Lanes(QUICK, rows=8)
    assert lanes.idle(2)
    lanes.ask(20, 20, 20)
    assert lanes.engine.begins()
    assert lanes.engine.begins()
    lanes.release()
    assert lanes.engine.begins()
    assert lanes.engine.rows == [20, 20, 8]
    lanes.engine.released.release(1000)
    lanes.pool.close()
