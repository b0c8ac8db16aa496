"""Ours against the best of the others, round by round."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.peers.contenders import BYTE_PEERS, FLOAT_PEERS, OURS
from benchmarks.peers.record import Window
from benchmarks.peers.windows import BESIDE_100, BESIDE_1000, HUNDRED, ONE, TWENTY

FLOATS, BYTES = f"{OURS}, float32", f"{OURS}, int8"
EARLY, EARLY_BYTES = f"{FLOATS}, exact", f"{BYTES}, exact"
FLOAT_NAMES: Final = tuple(peer.name for peer in FLOAT_PEERS)
BYTE_NAMES: Final = tuple(peer.name for peer in BYTE_PEERS)
ALL_NAMES: Final = FLOAT_NAMES + BYTE_NAMES


@dataclass(frozen=True)
class Line:
    """Ours against the best of some peers, round by round; `wanted` is the least ratio."""

    said: str
    ours: str
    peers: tuple[str, ...]
    way: str
    wanted: float | None = None


RATES: Final = (
    Line("float32 ÷ best float32 peer", FLOATS, FLOAT_NAMES, TWENTY, 2.7),
    Line("int8 ÷ best float32 peer", BYTES, FLOAT_NAMES, TWENTY, 5),
    Line("int8 ÷ best int8 peer", BYTES, BYTE_NAMES, TWENTY, 3),
    Line("float32 with `exact` ÷ best float32 peer", EARLY, FLOAT_NAMES, TWENTY),
    Line("int8 with `exact` ÷ best float32 peer", EARLY_BYTES, FLOAT_NAMES, TWENTY, 8),
    Line("int8 with `exact` ÷ best peer of any kind", EARLY_BYTES, ALL_NAMES, TWENTY, 8),
    Line("float32 with `exact` ÷ float32 with all votes", EARLY, (FLOATS,), TWENTY),
    Line("int8 with `exact` ÷ int8 with all votes", EARLY_BYTES, (BYTES,), TWENTY),
    Line("float32 ÷ best float32 peer", FLOATS, FLOAT_NAMES, ONE, 1.5),
    Line("int8 ÷ best float32 peer", BYTES, FLOAT_NAMES, ONE, 2),
    Line("int8 ÷ best int8 peer", BYTES, BYTE_NAMES, ONE),
)
ASKED: Final = {
    ONE: "one vote, 8 clients",
    TWENTY: "20 votes, 8 clients",
    HUNDRED: "100 votes, 4 clients",
    BESIDE_100: "one vote beside 4 × 100",
    BESIDE_1000: "one vote beside 4 × 1000",
}
BESIDE: Final = (BESIDE_100, BESIDE_1000)


class Found:
    """Windows of a record, by contender and way."""

    def __init__(self, windows: Iterable[Window]) -> None:
        self._of: dict[tuple[str, str], dict[int, Window]] = {}
        for each in windows:
            self._of.setdefault((each["contender"], each["way"]), {})[each["round"]] = each

    def names(self, way: str) -> list[str]:
        """Contenders that were asked in a way."""
        return [contender for contender, asked in self._of if asked == way]

    def windows(self, contender: str, way: str) -> dict[int, Window]:
        """By round."""
        return self._of.get((contender, way), {})

    def values(self, contender: str, way: str, figure: str) -> list[float]:
        """A figure in each round."""
        return [each[figure] for each in self.windows(contender, way).values()]

    def spread(self, contender: str, way: str, figure: str) -> dict[str, float]:
        """Median and quartiles over the rounds."""
        return spread(self.values(contender, way, figure))

    def p99(self, contender: str, way: str) -> float:
        """99th percentile in milliseconds of the one-vote requests of all rounds together."""
        return float(np.percentile(self._small(contender, way), 99))

    def small(self, contender: str, way: str) -> dict[str, float]:
        """The one-vote requests beside others, of all rounds together."""
        small = self._small(contender, way)
        p50, p99 = map(float, np.percentile(small, (50, 99)))
        return {"p50_ms": p50, "p99_ms": p99, "answers": len(small)}

    def _small(self, contender: str, way: str) -> list[float]:
        return [ms for each in self.windows(contender, way).values() for ms in each["small_ms"]]

    def ratios(self, line: Line, figure: str = "requests_per_second") -> list[float]:
        """Ours ÷ the best peer's of the same round, in each round that has both."""
        found = []
        for round_, mine in self.windows(line.ours, line.way).items():
            theirs = [self.windows(name, line.way).get(round_) for name in line.peers]
            if best := max((each[figure] for each in theirs if each is not None), default=None):
                found.append(mine[figure] / best)
        return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "lower_quartile": float(low), "upper_quartile": float(high)}


def lines_of(found: Found) -> list[dict[str, Any]]:
    """Every line whose contenders were measured: what was asked, what is compared, the least wanted, the spread."""
    lines: list[dict[str, Any]] = [
        {"asked": ASKED[line.way], "line": line.said, "wanted": line.wanted, **spread(ratios)}
        for line in RATES
        if (ratios := found.ratios(line))
    ]
    for way in BESIDE:
        peers = [name for name in found.names(way) if not name.startswith(OURS)]
        for ours in (FLOATS, BYTES):
            if peers and found.windows(ours, way):
                lines += _beside_lines(found, ours, peers, way)
    return lines


def _beside_lines(found: Found, ours: str, peers: Sequence[str], way: str) -> list[dict[str, Any]]:
    precision = ours.rpartition(", ")[2]
    lines: list[dict[str, Any]] = []
    least = min(found.p99(name, way) for name in peers)
    said = f"99th percentile, least of all peers ÷ {precision}"
    lines.append({"asked": ASKED[way], "line": said, "wanted": 1, "median": least / found.p99(ours, way)})
    large = found.ratios(Line("", ours, tuple(peers), way), "large_per_second")
    said = f"large requests a second, {precision} ÷ best peer of any kind"
    lines.append({"asked": ASKED[way], "line": said, "wanted": 0.95, **spread(large)})
    if way == BESIDE_100:
        shares = [
            (each["large_per_second"] * 100 + each["requests_per_second"]) / (alone["requests_per_second"] * 100)
            for round_, each in found.windows(ours, way).items()
            if (alone := found.windows(ours, HUNDRED).get(round_))
        ]
        if shares:
            said = f"votes a second, {precision} ÷ those of 4 × 100 alone"
            lines.append({"asked": ASKED[way], "line": said, "wanted": 0.95, **spread(shares)})
    return lines
