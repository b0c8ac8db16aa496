import asyncio
from functools import partial

import pytest

from benchmarks import http_overhead, workers
from benchmarks.closed_loop import Turn, TurnsTaken, in_turns, turn
from benchmarks.workers import Layout


def turns(*votes_per_second: float) -> TurnsTaken:
    """One-second turns with two requests each, of 10 ms and 30 ms."""
    return TurnsTaken([Turn([0.01, 0.03], int(rate), 1.0, 0.25) for rate in votes_per_second])


async def test_contenders_take_turns_and_change_places() -> None:
    """Every round has a turn of each, in an order that turns round, after a first round that is not counted."""
    asked: list[str] = []

    async def ask(name: str) -> int:
        asked.append(name)
        await asyncio.sleep(0.1)  # longer than a turn: each has one request
        return 5

    found = await in_turns({name: [partial(ask, name)] for name in "ab"}, rounds=3, seconds=0.03)
    assert "".join(asked) == "ab" + "ab" + "ba" + "ab"
    assert {name: [turn.votes for turn in each.turns] for name, each in found.items()} == {
        "a": [5, 5, 5],
        "b": [5, 5, 5],
    }


async def test_votes_of_clients_that_ask_at_once_are_all_counted() -> None:
    """Answers that come while others are waited for get lost in no sum."""

    async def ask() -> int:
        await asyncio.sleep(0.001)
        return 7

    found = await turn([ask] * 5, 0.02)
    assert len(found.latencies) >= 5
    assert found.votes == 7 * len(found.latencies)


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that gets slower after a turn leaves the ratio as it is."""
    over_http, in_process = turns(900, 90, 95), turns(1000, 100, 100)
    assert over_http.ratio(in_process) == pytest.approx(0.9)
    assert over_http.votes_per_second() == 95
    assert over_http.percentile_ms(100) == pytest.approx(30)
    point = http_overhead.point(20, {http_overhead.HTTP: over_http, http_overhead.IN_PROCESS: in_process})
    assert (point.votes, point.client_processors) == (20, 0.25)
    assert point.kept == pytest.approx(0.9)


def test_layouts_stand_beside_the_first() -> None:
    """Votes per second, requests and memory of each."""
    found = {"1 × 2": turns(100, 100), "2 × 1": turns(50, 150)}
    first, second = workers.points(20, found, {"1 × 2": 300.0, "2 × 1": 500.0})
    assert (first.ratio_to_first, second.ratio_to_first) == (1.0, 1.0)
    assert (second.layout, second.requests, second.memory_mib) == ("2 × 1", 4, 500.0)
    assert workers.row(second).startswith("| 20 | 2 × 1 | 100 | 1.000 | 20.0 | ")
    assert workers.HEADER.count("|") == workers.row(second).count("|")


def test_layouts_are_parsed() -> None:
    """Processes by lanes, both at least one."""
    assert Layout.parse("4x2") == Layout(processes=4, lanes=2)
    for text in ("4", "0x1", "1x0", "axb", "1x1x1"):
        with pytest.raises(Exception, match=f"'{text}' is not PROCESSESxLANES"):
            Layout.parse(text)
