"""Requests for a scheduler without an engine: logits are a function of the row."""

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, RequestResult, Scheduler
from noisevote.voting.stopping import Fixed, StopRule
from noisevote.voting.tally import Ballots, ballots
from tests.support.engines import fake_logits

CLASSES = 3


AMPLE = QueueLimits(rows=10**9, bytes=10**9)


def key(variant: int) -> SessionKey:
    """One of several sessions."""
    return SessionKey("tiny", "1", f"v{variant}")


def request(
    inputs: int = 1,
    votes: int = 1,
    rule: StopRule | None = None,
    seed: int = 0,
    session: int = 0,
    priority: int = 1,
    anytime: bool = False,
    first_vote: int = 0,
) -> VoteRequest:
    """A request whose inputs differ."""
    values = np.arange(inputs, dtype=np.float32)[:, np.newaxis] + seed
    rule = rule or Fixed()
    return VoteRequest(key(session), values, CLASSES, (0.5, 0.0), seed, votes, rule, priority, anytime, first_vote)


def ballots_of(batch: Batch) -> Ballots:
    """What an engine would make of a batch: each row's vote depends on its own request alone."""
    return ballots(fake_logits(batch.feeds(), CLASSES))


def alone(wanted: VoteRequest) -> NDArray[np.int64]:
    """The slow reference: each input by itself, vote after vote, until its rule asks for no more."""
    histogram = np.zeros((len(wanted.inputs), CLASSES), np.int64)
    for i in range(len(wanted.inputs)):
        vote = wanted.first_vote
        while more := int(wanted.rule.more(histogram[i : i + 1], wanted.votes)[0]):
            for _ in range(more):
                one = Batch(wanted.session, (Share(wanted, np.array([i]), np.array([vote])),))
                histogram[i, ballots_of(one).classes[0]] += 1
                vote += 1
    return histogram


def drain(scheduler: Scheduler, max_rows: int = 4) -> list[RequestResult]:
    """Run everything that waits, one batch after another."""
    finished: list[RequestResult] = []
    while batch := scheduler.next_batch(max_rows):
        finished += scheduler.absorb(batch, ballots_of(batch))
    return finished
