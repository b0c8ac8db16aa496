"""What is written of the windows: tables, a record and a picture."""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.peers.comparisons import ASKED, BESIDE, BYTE_NAMES, EARLY, EARLY_BYTES, Found, Line, lines_of
from benchmarks.peers.contenders import OURS, SIGMA
from benchmarks.peers.figure import Panel, draw
from benchmarks.peers.in_process import IN_PROCESS, NAMES
from benchmarks.peers.measuring import RECORD
from benchmarks.peers.record import Record, Window
from benchmarks.peers.windows import BESIDE_1000, ONE, TWENTY
from benchmarks.report import write
from benchmarks.serving_core import MODEL
from noisevote.model_store.store import ModelStore

TITLE: Final = "One vote and many, beside other servers"
KEPT: Final = ("requests_per_second", "p50_ms", "p99_ms", "client_processors", "server_processors", "right_votes")


def report(options: argparse.Namespace) -> None:
    """Write the tables, the record and the figure of all windows that are kept."""
    model = f"{MODEL} {ModelStore(options.model_store).manifest(MODEL).version}"
    record = Record(options.folder / RECORD, model)
    if not record.windows:
        raise SystemExit("benchmarks.peers: nothing was measured yet")
    found = Found(record.windows)
    lines = lines_of(found)
    picture = options.out.with_suffix(".png")
    page = [
        _about(record.windows, options.lanes), "", f"![Requests a second and latencies of each server]({picture.name})",
        "", "## Ours against the best", "", *_lines_table(lines), "", "## Each server", "", *_servers_table(found), "",
        *_early(found), "## One vote beside large requests", "", *_beside_table(found), "", "## In one process", "",
        *_alone_table(found), "", *(f"Left out: {name}: {why}." for name, why in record.missing.items()),
    ]  # fmt: skip
    print(*page, sep="\n")
    write(options.out, _figures(found, lines, record.missing), page, TITLE, model)
    if panels := _panels(found):
        draw(panels, picture, OURS)


def _about(windows: Sequence[Window], lanes: int) -> str:
    rounds, runs = len({each["round"] for each in windows}), len({each["run"] for each in windows})
    client = max(each["client_processors"] for each in windows if "client_processors" in each)
    return (
        f"Multiplicative noise at sigma {SIGMA:g}, {lanes} lanes; {rounds} rounds in {runs} run{'s' * (runs > 1)}, in "
        "which all take turns; medians with quartiles over the rounds. Every answer was checked: its votes are as "
        "many as were asked for, ours are those that the same seed gave alone, and with `exact` the decision is that "
        "of all votes. All serve the same weights; others draw noise with RandomNormalLike. With int8 they run the "
        f"same quantised graph. The clients, one process on the same machine, took {client:.2f} of a processor at most."
    )


def _lines_table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = ["| asked | figure | measured | aim | met |", "|---|---|---|---|---|"]
    for each in lines:
        aim = "" if each["wanted"] is None else f"≥ {each['wanted']:g}"
        met = "" if each["wanted"] is None else "yes" if each["median"] >= each["wanted"] else "no"
        rows.append(f"| {each['asked']} | {each['line']} | {_cell(each, 2)} | {aim} | {met} |")
    return rows


def _servers_table(found: Found) -> list[str]:
    rows = [
        "| server | one vote, requests/s | p99 | processor time a request | 20 votes, requests/s | p99 | client |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted({*found.names(ONE), *found.names(TWENTY)}, key=lambda name: _place(found, name)):
        one = [f"{_processor_ms(found, name):.2f} ms"] if found.windows(name, ONE) else [""]
        first, second = (_rate_cells(found, name, way) for way in (ONE, TWENTY))
        client = max(value for way in (ONE, TWENTY) for value in found.values(name, way, "client_processors"))
        rows.append(f"| {' | '.join([name, *first, *one, *second])} | {client:.2f} |")
    return rows


def _rate_cells(found: Found, name: str, way: str) -> list[str]:
    if not found.windows(name, way):
        return ["", ""]
    return [_cell(found.spread(name, way, "requests_per_second")), _ms(found, name, way, "p99_ms")]


def _early(found: Found) -> list[str]:
    """What `exact` would give those who ask for nothing but the label, as a proposal."""
    answers = sum(sum(found.values(name, TWENTY, "answers")) for name in (EARLY, EARLY_BYTES))
    cast = sum(sum(found.values(name, TWENTY, "votes")) for name in (EARLY, EARLY_BYTES))
    if not answers:
        return []
    gains = [
        f"{statistics.median(ratios):.2f} times as many in {name.removeprefix(f'{OURS}, ')}"
        for early, name in ((EARLY, f"{OURS}, float32"), (EARLY_BYTES, f"{OURS}, int8"))
        if (ratios := found.ratios(Line("", early, (name,), TWENTY)))
    ]
    return [
        f"With `exact`, {answers:.0f} answers of 20 votes at most took {cast / answers:.1f} votes on average, and each "
        f"decided as all 20 do. Requests answered, of those with all votes: {', '.join(gains)}. "
        'Proposal: where no policy hides the votes, let a request with `"return": "label"` be answered under `exact`: '
        "its label is the same. Under a policy the time of an answer would tell the margin, so there nothing changes.",
        "",
    ]


def _place(found: Found, name: str) -> tuple[bool, bool, float]:
    """Ours first, then floats, then bytes, the fastest first."""
    median = statistics.median(found.values(name, TWENTY, "requests_per_second") or [0])
    return not name.startswith(OURS), not name.startswith(OURS) and name in BYTE_NAMES, -median


def _processor_ms(found: Found, name: str) -> float:
    """Of the server for one request of one vote."""
    each = found.windows(name, ONE).values()
    taken: float = statistics.median(1e3 * it["server_processors"] / it["requests_per_second"] for it in each)
    return taken


def _ms(found: Found, name: str, way: str, figure: str) -> str:
    return f"{statistics.median(found.values(name, way, figure)):.1f} ms"


def _beside_table(found: Found) -> list[str]:
    rows = ["| server | large requests | median | 99th percentile | answers | large requests/s |", "|---" * 6 + "|"]
    for way in BESIDE:
        for name in sorted(found.names(way), key=lambda name, way=way: found.p99(name, way)):  # type: ignore[misc]
            small = found.small(name, way)
            large = _cell(found.spread(name, way, "large_per_second"), 1 + (way == BESIDE_1000))
            times = " | ".join(f"{small[figure]:.1f} ms" for figure in ("p50_ms", "p99_ms"))
            rows.append(f"| {name} | {ASKED[way][16:]} | {times} | {small['answers']} | {large} |")
    return rows


def _alone_table(found: Found) -> list[str]:
    rows = ["| on all lanes, a batch each | votes/s |", "|---|---|"]
    measured = [name for name in NAMES if found.windows(name, IN_PROCESS)]
    return rows + [f"| {name} | {_cell(found.spread(name, IN_PROCESS, 'votes_per_second'))} |" for name in measured]


def _panels(found: Found) -> list[list[Panel]]:
    rates = [_rates(found, way) for way in (ONE, TWENTY)]
    waits = [_waits(found, way) for way in BESIDE]
    return [row for row in ([panel for panel in row if panel.bars] for row in (rates, waits)) if row]


def _rates(found: Found, way: str) -> Panel:
    bars = []
    for name in found.names(way):
        around = found.spread(name, way, "requests_per_second")
        bars.append((name, around["median"], (around["lower_quartile"], around["upper_quartile"])))
    return Panel(f"{ASKED[way]}: requests a second", "/s", sorted(bars, key=lambda bar: -bar[1]))


def _waits(found: Found, way: str) -> Panel:
    bars = [(name, found.p99(name, way), None) for name in found.names(way)]
    return Panel(f"{ASKED[way]}: 99th percentile", "ms", sorted(bars, key=lambda bar: bar[1]))


def _cell(spread: Mapping[str, Any], digits: int = 0) -> str:
    said = f"{spread['median']:.{digits}f}"
    if "lower_quartile" not in spread:
        return said
    return f"{said} ({spread['lower_quartile']:.{digits}f} to {spread['upper_quartile']:.{digits}f})"


def _figures(found: Found, lines: Sequence[Mapping[str, Any]], missing: Mapping[str, str]) -> dict[str, Any]:
    servers: dict[str, dict[str, Any]] = {}
    for way in ASKED:
        for name in found.names(way):
            figures: dict[str, Any] = {figure: found.spread(name, way, figure) for figure in KEPT}
            if way in BESIDE:
                figures |= found.small(name, way) | {"large_per_second": found.spread(name, way, "large_per_second")}
            servers.setdefault(name, {})[ASKED[way]] = figures
    alone = {name: found.spread(name, IN_PROCESS, "votes_per_second") for name in found.names(IN_PROCESS)}
    return {"lines": lines, "servers": servers, IN_PROCESS: alone, "missing": missing}
