"""What is made of the rounds of `make bench-peers`, and that wrong answers end it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.contenders import PEERS, REQUIREMENTS, SERVERS, Unavailable, launched
from benchmarks.peers.rounds import OURS, Contender, WrongAnswerError
from benchmarks.peers.tables import draw, ratios, summary, table


def measured(one: float, twenty: float, p99: float) -> dict[str, Any]:
    """A contender's figures of a round."""
    return {
        "1": {"requests_per_second": one, "client_processors": 0.2},
        "20": {"requests_per_second": twenty, "client_processors": 0.1},
        "beside 100": {"small_ms": [p99] * 3, "large_per_second": 40.0},
        "beside 1000": {"small_ms": [p99], "large_per_second": 4.0},
    }


ROUNDS = [
    {OURS: measured(1500, 200, 8), "A": measured(1000, 80, 20), "B": measured(500, 100, 30)},
    {OURS: measured(750, 100, 10), "A": measured(500, 40, 22), "B": measured(100, 50, 32)},
    {OURS: measured(1500, 220, 12), "A": measured(1000, 80, 24)},
]


def test_ratios_are_taken_within_a_round_against_its_best_peer() -> None:
    """A machine that is half as fast for a round changes none of them."""
    found = ratios(ROUNDS)
    assert found["1 votes, ours ÷ best peer"]["median"] == 1.5
    assert found["20 votes, ours ÷ best peer"]["median"] == 2.0
    assert summary(ROUNDS)["B"]["rounds"] == 2


def test_every_contender_has_a_row_and_a_bar(tmp_path: Path) -> None:
    """Medians with quartiles, percentiles of all rounds together."""
    found = summary(ROUNDS)
    rows = table(found, ratios(ROUNDS))
    assert [row.split(" | ")[0] for row in rows[2:5]] == ["| noisevote", "| A", "| B"]
    assert rows[2].split(" | ")[1] == "1500 (1125 to 1500)"
    assert all(row.count("|") == rows[0].count("|") for row in rows[:5])
    draw(found, tmp_path / "peers.svg")
    assert b"noisevote" not in (tmp_path / "peers.svg").read_bytes()[:100]
    assert (tmp_path / "peers.svg").stat().st_size > 1000


class Answering:
    """Connections to a server that always says the same."""

    def __init__(self, status: int, histogram: list[int]) -> None:
        self.status, self.histogram = status, histogram

    async def post(self, body: bytes) -> tuple[int, bytes]:  # noqa: ARG002  # as connections have it
        return self.status, json.dumps(self.histogram).encode()


@pytest.mark.parametrize(
    ("status", "histogram", "problem"),
    [
        (500, [], "answers 500"),
        (200, [2, *[0] * 8, 1], "are not 20 votes"),
        (200, [20], "are not 20 votes"),
        (200, [21, -1, *[0] * 8], "are not 20 votes"),
        (200, [0, 20, *[0] * 8], "is not what the same seed gave alone"),
    ],
)
async def test_a_wrong_answer_ends_the_measurement(status: int, histogram: list[int], problem: str) -> None:
    """No figure is kept of a server that does not do what it is asked for."""
    body = b"{}"
    contender = Contender(OURS, Answering(status, histogram), list, {20: [body]}, {body: [20, *[0] * 9]})  # type: ignore[arg-type]
    with pytest.raises(WrongAnswerError, match=problem):
        await contender.client(20)()


async def test_another_label_is_counted() -> None:
    """Votes are random, so it is no error."""
    contender = Contender("A", Answering(200, [20, *[0] * 9]), list, {20: [b"{}"]})  # type: ignore[arg-type]
    assert await contender.client(20)() == 20
    assert contender.mistaken == 1


def test_what_is_not_installed_is_left_out_with_a_reason(tmp_path: Path) -> None:
    """Nobody needs all of them; each has requirements and a program."""
    assert {peer.environment for peer in PEERS} == {file.stem for file in REQUIREMENTS.glob("*.txt")}
    assert len(list(SERVERS.glob("*_digits.py"))) == len({peer.environment for peer in PEERS})
    for peer in PEERS:
        with pytest.raises(Unavailable, match="not installed"), launched(peer, tmp_path, tmp_path, tmp_path):
            pass
