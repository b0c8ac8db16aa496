from collections import Counter
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from noisevote.loadtest.errors import problems
from noisevote.loadtest.load_profile import LoadProfile
from noisevote.loadtest.measurement import measure
from noisevote.loadtest.phase import ClosedLoop, OpenLoop, Phase
from tests.support.load_samples import answer, refusal, turn


def phases(profile: LoadProfile) -> Iterator[Phase]:
    """All phases, where a server answers one request a second."""
    yield profile.warm_up()
    for votes in profile.votes:
        yield profile.closed(votes)
        yield profile.stopping(votes)
        offered = profile.offered(votes, measure(profile.closed(votes), turn(answer(0.0, 1.0, votes=votes))))
        assert offered is not None
        yield offered
    yield from profile.others()


def test_the_usual_profile_varies_votes_sigma_and_clients_within_a_minute() -> None:
    """Every part is there, and all of its seconds are shared out, with a third of a minute for starting and waiting."""
    found = list(phases(LoadProfile()))
    counts = Counter(phase.part for phase in found)
    assert counts == {
        "warm-up": 1,
        "votes": 7,
        "early stopping": 7,
        "offered rate": 7,
        "concurrency": 6,
        "sigma": 4,
        "mixed votes": 2,
    }
    assert sum(phase.seconds for phase in found) == pytest.approx(LoadProfile().seconds)
    assert LoadProfile().seconds <= 40
    assert [phase.votes for phase in found if phase.part == "votes"] == [(1,), (2,), (5,), (10,), (20,), (50,), (100,)]


def test_parts_differ_in_what_they_vary_alone() -> None:
    """Concurrency changes the clients, sigma the sigma, and both keep the usual votes."""
    profile = LoadProfile(concurrency=(1, 3), sigmas=(0.1, 0.2), usual_votes=7, rule="confidence")
    others = list(profile.others())
    assert [phase.load for phase in others if phase.part == "concurrency"] == [ClosedLoop(clients=n) for n in (1, 3)]
    assert [(phase.sigma, phase.rule) for phase in others if phase.part == "sigma"] == [
        (0.1, "confidence"),
        (0.2, "confidence"),
    ]
    assert {phase.votes for phase in others if phase.part != "mixed votes"} == {(7,)}
    assert {phase.votes for phase in others if phase.part == "mixed votes"} == {profile.votes}


def test_the_offered_rate_is_a_share_of_what_the_closed_loop_reached() -> None:
    """Or the rate that was given; and none where the closed loop got no answer."""
    profile = LoadProfile(load=0.25)
    reached = measure(profile.closed(5), turn(*(answer(0.0, 2.0, votes=5) for _ in range(80))))
    nothing = measure(profile.closed(5), turn(refusal(0.0, 1.0, "422")))
    offered = profile.offered(5, reached)
    assert offered is not None
    assert offered.load == OpenLoop(rate=10.0)
    assert profile.offered(5, nothing) is None
    given = LoadProfile(rate=3.0).offered(5, reached)
    assert given is not None
    assert given.load == OpenLoop(rate=3.0)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("votes", ["1", "0"], "votes: '0': Input should be greater than or equal to 1"),
        ("votes", ["x"], "votes: 'x': Input should be a valid integer, unable to parse string as an integer"),
        ("sigma", "11", "sigma: '11': Input should be less than or equal to 10"),
        ("concurrency", ["0"], "concurrency: '0': Input should be greater than or equal to 1"),
        ("seconds", "0", "seconds: '0': Input should be greater than 0"),
        ("rate", "inf", "rate: 'inf': Input should be a finite number"),
        ("rule", "never", "rule: 'never': Input should be 'fixed', 'exact' or 'confidence'"),
        ("votes", ["1", "2", "1"], "votes: 1,2,1 names a value twice"),
    ],
)
def test_values_that_cannot_be_used_are_refused_by_key_and_value(name: str, text: object, problem: str) -> None:
    """One line, though a list that holds such a value is refused itself, too."""
    with pytest.raises(ValidationError) as caught:
        LoadProfile.model_validate({name: text})
    assert problems(caught.value) == problem
