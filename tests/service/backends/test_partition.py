from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noisevote.engine.session_key import SessionKey
from noisevote.service.backends.partition import Part, Standing, merge, split
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.voting.stopping import Confidence, Exact, Fixed, StopRule
from noisevote.voting.tally import ballots
from tests.support.effort import examples
from tests.support.engines import fake_logits

KEY = SessionKey("tiny", "1", "v0")
CLASSES = 3
AMPLE = QueueLimits(rows=10**9, bytes=10**9)


def request(
    inputs: int,
    budget: int,
    rule: StopRule,
    seed: int = 0,
    first_vote: int = 0,
    anytime: bool = False,
    keeps_votes: bool = False,
) -> VoteRequest:
    """A request whose inputs differ."""
    values = np.arange(inputs, dtype=np.float32)[:, np.newaxis]
    return VoteRequest(KEY, values, CLASSES, (0.5, 0.0), seed, budget, rule, 1, anytime, first_vote, keeps_votes)


def computed(wanted: VoteRequest, most_batches: int = 10**9) -> Standing:
    """What a process by itself counts for a request, or has counted after so many batches."""
    scheduler = Scheduler(AMPLE)
    scheduler.add(wanted)
    for _ in range(most_batches):
        batch = scheduler.next_batch(4)
        assert batch is not None
        for finished in scheduler.absorb(batch, ballots(fake_logits(batch.feeds(), CLASSES))):
            return Standing(finished.tally, finished.complete)
    return Standing(*scheduler.standing(wanted))


REQUESTS = st.builds(
    request,
    inputs=st.integers(1, 6),
    budget=st.integers(1, 12),
    rule=st.one_of(st.just(Fixed()), st.just(Exact()), st.builds(Confidence, st.floats(0.05, 0.9))),
    seed=st.one_of(st.integers(0, 2**64 - 1), st.just(2**64 - 1)),
    first_vote=st.integers(0, 5),
    anytime=st.booleans(),
    keeps_votes=st.booleans(),
)


@settings(deadline=None, max_examples=examples(150))
@given(REQUESTS, st.integers(1, 80), st.randoms(use_true_random=False))
def test_parts_add_up_to_the_whole(whole: VoteRequest, most_rows: int, random: Random) -> None:
    """However it is cut, wherever and in whatever order the parts are computed: the same integers under every rule."""
    parts = split(whole, most_rows)
    standings: list[Standing | None] = [None] * len(parts)
    for index in random.sample(range(len(parts)), len(parts)):
        standings[index] = computed(parts[index].request)
    added, alone = merge(whole, parts, standings), computed(whole)
    np.testing.assert_array_equal(added.tally.histogram, alone.tally.histogram)
    np.testing.assert_array_equal(added.tally.probabilities, alone.tally.probabilities)
    assert added.complete.all()
    assert (added.tally.kept is None) == (alone.tally.kept is None) == (not whole.keeps_votes)
    if added.tally.kept is not None and alone.tally.kept is not None:
        np.testing.assert_array_equal(added.tally.kept.cast, alone.tally.kept.cast)
        np.testing.assert_array_equal(added.tally.kept.logits, alone.tally.kept.logits)


@given(REQUESTS, st.integers(1, 80))
def test_parts_are_small_and_level_and_cover_the_whole_once(whole: VoteRequest, most_rows: int) -> None:
    """Every vote is in one part; a part keeps to the limit, unless it is one input under a rule that looks at votes."""
    parts = split(whole, most_rows)
    cells = [
        (i, part.request.first_vote + v)
        for part in parts
        for i in range(part.inputs.start, part.inputs.stop)
        for v in range(part.request.votes)
    ]
    first, inputs = whole.first_vote, range(len(whole.inputs))
    assert sorted(cells) == [(i, v) for i in inputs for v in range(first, first + whole.votes)]
    rows = [part.request.rows for part in parts]
    alone = [part.request.rows for part in parts if len(part.request.inputs) == 1]
    assert max(rows) <= most_rows or (not isinstance(whole.rule, Fixed) and max(rows) in alone)
    assert max(rows) - min(rows) <= max(whole.votes, len(whole.inputs))
    assert len(parts) == 1 or whole.rows > most_rows


def test_a_request_up_to_the_limit_is_left_alone() -> None:
    """It is its own only part."""
    whole = request(3, 4, Fixed())
    (part,) = split(whole, 12)
    assert part.request is whole


def test_a_part_has_what_the_whole_has() -> None:
    """All but inputs, seed and votes is handed on: noise, rule, priority and whether it may be looked at before."""
    whole = replace(request(2, 6, Fixed(), anytime=True), priority=5, sigma=(0.0, 0.3))
    for part in split(whole, 3):
        assert (part.request.sigma, part.request.priority, part.request.anytime) == ((0.0, 0.3), 5, True)
        assert part.request.session == KEY


@settings(deadline=None)
@given(REQUESTS, st.integers(1, 20), st.data())
def test_what_is_not_yet_known_is_not_complete(whole: VoteRequest, most_rows: int, data: st.DataObject) -> None:
    """While parts are unknown or under way, votes are those counted; an input is complete once all its parts are."""
    parts = split(whole, most_rows)

    def standing(part: Part) -> Standing | None:
        return data.draw(st.sampled_from([None, computed(part.request, 0), computed(part.request)]))

    standings = [standing(part) for part in parts]
    added = merge(whole, parts, standings)
    assert added.votes == sum(known.votes for known in standings if known is not None)
    for i in range(len(whole.inputs)):
        known = [s for part, s in zip(parts, standings, strict=True) if part.inputs.start <= i < part.inputs.stop]
        assert added.complete[i] == all(s is not None and s.votes > 0 for s in known)
