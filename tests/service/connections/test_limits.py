from noisevote.service.connections.limits import ConnectionLimits, OpenConnections, Phase


def test_at_the_limit_the_longest_without_a_complete_request_goes() -> None:
    """However often it sends a byte; who waits for an answer stays; an answered one is as young as its answer."""
    door: OpenConnections[str] = OpenConnections(ConnectionLimits(connections=3))
    assert [door.admit(peer, "a", now) for now, peer in enumerate(["asking", "dripping", "idle"])] == [None] * 3
    door.enter("asking", Phase.ANSWER, 3)
    door.enter("dripping", Phase.BODY, 4)
    door.heard("dripping", 1, 5)
    assert door.admit("new", "a", 6) == "dripping"
    door.leave("dripping")
    door.enter("asking", Phase.IDLE, 7)
    assert door.admit("newer", "a", 8) == "idle"
    door.leave("idle")
    assert door.admit("newest", "a", 9) == "new"


def test_where_all_are_being_answered_a_new_one_has_to_go() -> None:
    """Nobody loses an answer to it."""
    door: OpenConnections[str] = OpenConnections(ConnectionLimits(connections=1))
    door.admit("asking", "a", 0)
    door.enter("asking", Phase.ANSWER, 1)
    assert door.admit("new", "b", 2) == "new"
    door.leave("new")
    assert door.peers() == ["asking"]


def test_an_address_may_have_a_limit_of_its_own() -> None:
    """Off by default; closed connections count no more."""
    door: OpenConnections[int] = OpenConnections(ConnectionLimits(connections=9, per_address=1))
    assert door.admit(1, "a", 0) is None
    assert door.admit(2, "a", 0) == 2
    assert door.admit(3, "b", 0) is None
    door.leave(2)
    door.leave(1)
    door.leave(1)
    assert door.admit(4, "a", 0) is None


def overdue(door: OpenConnections[str], now: float) -> list[str]:
    """Which connections took too long."""
    return [peer for peer, _ in door.overdue(now)]


def test_a_header_has_its_time_from_the_opening_or_its_first_byte() -> None:
    """Whether nothing or half of it came; an idle connection between two requests is not meant."""
    door: OpenConnections[str] = OpenConnections(ConnectionLimits(9, header_seconds=10))
    for peer in ("silent", "second request", "idle"):
        door.admit(peer, "a", 0)
    for peer in ("second request", "idle"):
        door.enter(peer, Phase.ANSWER, 1)
        door.enter(peer, Phase.IDLE, 2)
    door.enter("second request", Phase.HEADER, 5)
    assert overdue(door, 10) == []
    assert overdue(door, 11) == ["silent"]
    assert overdue(door, 16) == ["silent", "second request"]


def test_a_body_may_neither_stop_nor_drip() -> None:
    """Silent for the time limit, or slower on average than the rate once the time limit is over."""
    limits = ConnectionLimits(9, body_seconds=10, min_body_rate=100)
    door: OpenConnections[str] = OpenConnections(limits)
    for peer in ("silent", "dripping", "slow enough"):
        door.admit(peer, "a", 0)
        door.enter(peer, Phase.BODY, 0)
    for second in range(1, 30):
        door.heard("dripping", 1, second)
        door.heard("slow enough", 100, second)
    assert overdue(door, 10) == []
    assert overdue(door, 10.5) == ["silent", "dripping"]
    assert overdue(door, 29) == ["silent", "dripping"]


def test_nobody_is_overdue_while_the_server_has_to_answer() -> None:
    """However long that takes."""
    door: OpenConnections[str] = OpenConnections(ConnectionLimits(9))
    door.admit("asking", "a", 0)
    door.enter("asking", Phase.ANSWER, 1)
    assert overdue(door, 1e9) == []


def test_who_was_refused_has_a_moment_to_read_it() -> None:
    """And stays refused whatever it sends."""
    door: OpenConnections[str] = OpenConnections(ConnectionLimits(9, farewell_seconds=2))
    door.admit("refused", "a", 0)
    door.enter("refused", Phase.REFUSED, 1)
    door.enter("refused", Phase.HEADER, 2)
    assert overdue(door, 3) == []
    assert overdue(door, 3.5) == ["refused"]


def test_files_that_cannot_be_opened_are_no_connections() -> None:
    """The smaller of the setting and what the process may open."""
    from noisevote.service.settings import Settings

    settings = Settings(max_connections=100)
    assert ConnectionLimits.of(settings, 1000).connections == 100
    assert ConnectionLimits.of(settings, 60).connections == 60
