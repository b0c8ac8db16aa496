"""How many rows a batch should have, by a latency curve that is measured when a model is loaded.

A batch of one row pays the whole overhead of a run; a long one keeps everybody else waiting and its
signals fall out of the processor's cache. So: the shortest batch that is about as fast per row as any.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.footprint import Footprint
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest
from noisevote.service.scheduling.batch import Batch
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.turns import MOST_SHARING
from noisevote.voting.stopping import Fixed
from noisevote.voting.tally import Ballots, ballots

# Of a server that computes votes, other requests should not have to wait longer than this for their turn.
LONGEST_BATCH_S: Final = 0.05
# Share of the best rows per second that a shorter batch must reach: everybody waits for the batches under way.
ABOUT_AS_FAST: Final = 0.95
# A request of at most so many good batches is not cut, if it takes no longer than the time above: among others like it
# nobody would be served sooner, and each batch costs some tenths of a millisecond of Python.
LONGER: Final = 3
# The least of at least so many runs is what a batch takes; what is above comes from elsewhere.
REPETITIONS: Final = 3
# More of them follow until the last so many chose rows that all serve, in all so many at most: between sizes that are
# about as fast, what is left of disturbances makes the choice.
MOST_REPETITIONS: Final = 8

Clock = Callable[[], float]


@dataclass(frozen=True)
class BatchProfile:
    """Rows of a good batch, seconds that a worker needs for each, and the measured curve of (rows, seconds).

    `footprint` tells the memory of batches, where that could be measured.
    """

    rows: int
    row_s: float
    curve: tuple[tuple[int, float], ...]
    footprint: Footprint | None = None

    @property
    def most_rows(self) -> int:
        """Of the longest batch, which is a request that is not cut: some good ones, as far as was measured."""
        measured = max((rows for rows, seconds in self.curve if seconds <= LONGEST_BATCH_S), default=self.rows)
        return max(self.rows, min(LONGER * self.rows, measured))

    @property
    def bytes(self) -> int | None:
        """Of memory that a good batch takes while it is computed; None: nobody knows."""
        return None if self.footprint is None else self.footprint.bytes(self.rows)

    @classmethod
    def of(cls, curve: tuple[tuple[int, float], ...]) -> "BatchProfile":
        """Choose the fewest rows that are about as fast per row as the best batch of the curve that is not too long."""
        short = [point for point in curve if point[1] <= LONGEST_BATCH_S] or [min(curve)]
        best = max(rows / seconds for rows, seconds in short)
        rows, seconds = next(point for point in sorted(short) if point[0] / point[1] >= ABOUT_AS_FAST * best)
        return cls(rows, seconds / rows, curve)


def compute(engine: Engine, batch: Batch) -> Ballots:
    """Run a batch: make its arrays, run the model, and read each row's vote."""
    logits = engine.run(batch.session, batch.feeds())
    if len(logits) != len(batch):  # counted as they are, some votes would be another request's
        raise ValueError(f"{len(logits)} rows of logits for {len(batch)} rows")
    return ballots(logits)


def finite_without_noise(engine: Engine, batch: Batch) -> NDArray[np.bool_]:
    """Of which rows the logits are numbers once nobody's noise is added: of the others the model is what is wrong."""
    feeds = batch.feeds()
    return np.asarray(np.isfinite(engine.run(batch.session, replace(feeds, sigma=np.zeros_like(feeds.sigma)))).all(1))


def measure(
    engine: Engine, key: SessionKey, manifest: Manifest, most_rows: int, clock: Clock, step: int = 1
) -> BatchProfile:
    """Time batches of 1, 2, 4, 8, 12, … `most_rows` rows, up to the first that takes too long, in turns.

    They are batches of a busy server, shared by as many requests as may share one. Where rows are computed in multiples
    of `step`, fewer take as long as so many, and are left out.
    """
    least: dict[int, float] = {}
    chosen: list[int] = []
    while len(chosen) < REPETITIONS or (len(chosen) < MOST_REPETITIONS and not settled(chosen[-REPETITIONS:], least)):
        for rows in _sizes(min(step, most_rows), most_rows):
            sharing = min(rows, MOST_SHARING)
            requests = [_request(key, manifest, seed, (rows + seed) // sharing) for seed in range(sharing)]
            least[rows] = min(_seconds(engine, requests, rows, clock), least.get(rows, math.inf))
            if least[rows] > LONGEST_BATCH_S:
                break
        chosen.append(BatchProfile.of(tuple(least.items())).rows)
    return BatchProfile.of(tuple(least.items()))


def settled(chosen: Iterable[int], seconds: Mapping[int, float]) -> bool:
    """Whether all of these rows are nearly as fast per row as the best, by what batches take as far as is known now."""
    best = max(rows / taken for rows, taken in seconds.items() if taken <= LONGEST_BATCH_S or rows == min(seconds))
    return all(rows / seconds[rows] >= ABOUT_AS_FAST**2 * best for rows in chosen)


def _seconds(engine: Engine, requests: list[VoteRequest], rows: int, clock: Clock) -> float:
    """Time a batch of so many rows of these requests, from before it is cut until its votes are counted."""
    total = sum(request.rows for request in requests), sum(request.bytes for request in requests)
    scheduler = Scheduler(QueueLimits(*total))
    for request in requests:
        scheduler.add(request)
    began = clock()
    batch = scheduler.next_batch(rows)
    assert batch is not None  # they were just added
    scheduler.absorb(batch, compute(engine, batch))
    return clock() - began


def _sizes(least_rows: int, most_rows: int) -> Iterator[int]:
    """The least rows, doubled over and over, and from eight rows on also what is halfway between them."""
    rows = least_rows
    while rows < most_rows:
        yield rows
        if 8 <= rows < most_rows * 2 / 3:
            yield rows * 3 // 2
        rows *= 2
    yield most_rows


def _request(key: SessionKey, manifest: Manifest, seed: int, votes: int) -> VoteRequest:
    """Ask for so many noisy votes on one input in the middle of the value range."""
    middle = np.full((1, *manifest.input.shape), np.mean(manifest.input.value_range), np.float32)
    return VoteRequest(key, middle, len(manifest.classes), (0.5, 0.0), seed, votes, Fixed())
