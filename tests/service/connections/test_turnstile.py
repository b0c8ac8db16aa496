"""Who passes in a turn, and in what order."""

from hypothesis import given
from hypothesis import strategies as st

from noisevote.service.connections.turnstile import Turnstile

MOST = st.integers(1, 4)
# In each turn who arrives, and who leaves then.
TURNS = st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=9), st.sets(st.integers(0, 9), max_size=2)), max_size=9)


def turn(turnstile: Turnstile[int]) -> list[int]:
    """Begin a turn; returns those that waited and pass in it."""
    turnstile.begin()
    return list(iter(turnstile.next, None))


@given(MOST, TURNS)
def test_no_more_pass_in_a_turn_than_allowed(most: int, turns: list[tuple[list[int], set[int]]]) -> None:
    """Those that waited among them; whoever has passed may come again."""
    turnstile = Turnstile[int](most)
    for arrivals, _ in turns:
        passed = set(turn(turnstile))
        passed |= {peer for peer in arrivals if turnstile.arrive(peer)}
        assert len(passed) <= most


@given(MOST, TURNS)
def test_all_pass_in_the_order_of_their_arrival(most: int, turns: list[tuple[list[int], set[int]]]) -> None:
    """Each once for the times that it was told to wait, unless it left; a model of one list says who waits."""
    turnstile, waiting = Turnstile[int](most), list[int]()
    for arrivals, leaving in turns:
        passing = turn(turnstile)
        assert passing == waiting[:most]
        passed, waiting = set(passing), waiting[most:]
        for peer in arrivals:
            if peer in waiting:  # a connection that waits is not read from
                continue
            may = peer in passed or len(passed) < most
            assert turnstile.arrive(peer) is may
            if may:
                passed.add(peer)
            else:
                waiting.append(peer)
        for peer in leaving:
            turnstile.leave(peer)
        waiting = [peer for peer in waiting if peer not in leaving]
        assert len(turnstile) == len(waiting)


@given(MOST, st.lists(st.integers(0, 99), unique=True, max_size=40))
def test_nobody_waits_for_ever(most: int, arrivals: list[int]) -> None:
    """As many turns pass as are needed for all."""
    turnstile = Turnstile[int](most)
    found = [peer for peer in arrivals if turnstile.arrive(peer)]
    turns = 0
    while len(turnstile):
        found += turn(turnstile)
        turns += 1
    assert found == arrivals
    assert turns == -(-max(0, len(arrivals) - most) // most)


def test_whoever_finds_room_does_not_wait() -> None:
    """A turn in which few come delays none of them."""
    turnstile = Turnstile[int](3)
    for _ in range(5):
        assert not turn(turnstile)
        assert all(turnstile.arrive(peer) for peer in range(3))


@given(MOST, st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=9))
def test_nobody_passes_a_turn_that_is_shut(most: int, arrivals: list[int]) -> None:
    """Not even who has passed before; those that wait keep their places."""
    turnstile = Turnstile[int](most)
    assert turnstile.arrive(100)
    turnstile.shut()
    assert [turnstile.arrive(peer) for peer in arrivals] == [False] * len(arrivals)
    assert not turnstile.room(100)
    assert turnstile.next() is None
    assert turn(turnstile) == arrivals[:most]
