"""A load test as tables of Markdown."""

from collections.abc import Iterator, Sequence

from noisevote.loadtest.measurement import Measurement, Percentiles
from noisevote.loadtest.overhead import Overhead
from noisevote.loadtest.phase import OpenLoop, Part, Phase
from noisevote.loadtest.record import LoadTest

PARTS: tuple[Part, ...] = ("votes", "early stopping", "offered rate", "concurrency", "sigma", "mixed votes")
HEADER = (
    "| part | votes | sigma | rule | load | answered | others | p50 ms | p95 ms | p99 ms | requests/s | votes/s "
    "| votes saved | latest start ms | client processors |"
)
OVERHEAD_HEADER = "| votes | HTTP votes/s | in process votes/s | HTTP ÷ in process | client processors |"
MIXED_HEADER = "| rule | votes | p50 ms | p95 ms | p99 ms |"


def lines(record: LoadTest) -> Sequence[str]:
    """All tables, with what is needed to read them."""
    return [*_about(record), "", *_phases(record), "", *_mixed(record), *_overhead(record.overhead)]


def _about(record: LoadTest) -> Iterator[str]:
    client = record.client
    yield (
        f"Model {record.model} {record.version}, input {record.input}, phases of {record.profile.phase_seconds:.3g} s. "
        f"Load by Locust {client.locust}, Python {client.python}, on a machine of {client.processors} processors."
    )
    yield ""
    yield (
        "Closed loop (clients): latency from sending to answer. Open loop (requests/s): from when a request was due, "
        "whatever became of earlier ones; `latest start`: the longest that one was sent after that. `others`: requests "
        "with another outcome than an answer. An empty p95 or p99: too few requests to tell it from the longest."
    )


def _phases(record: LoadTest) -> Iterator[str]:
    yield HEADER
    yield _rule(HEADER)
    for part in PARTS:
        for found in record.of(part):
            yield _row(_cells(found))


def _cells(found: Measurement) -> Sequence[str]:
    phase = found.phase
    return [
        phase.part,
        "mixed" if len(phase.votes) > 1 else str(phase.votes[0]),
        f"{phase.sigma:g}",
        phase.rule,
        load(phase),
        str(found.answered),
        _others(found),
        *_latencies(found.latency_ms),
        f"{found.requests_per_second:.1f}",
        f"{found.votes_per_second:.0f}",
        "" if found.saved_share is None or phase.rule == "fixed" else f"{100 * found.saved_share:.1f}%",
        "" if found.late_ms is None else _ms(found.late_ms.longest),
        f"{found.client_processors:.2f}",
    ]


def progress(found: Measurement) -> str:
    """A phase in one line, for whoever waits."""
    cells = dict(zip(HEADER.strip("| ").split(" | "), _cells(found), strict=True))
    shown = ("votes", "rule", "load", "answered", "p50 ms", "votes/s")
    return f"{cells['part']}: {', '.join(f'{name} {cells[name]}' for name in shown)}"


def load(phase: Phase) -> str:
    """In words."""
    if isinstance(phase.load, OpenLoop):
        return f"{phase.load.rate:.1f} requests/s"
    return f"{phase.load.clients} client{'s' if phase.load.clients > 1 else ''}"


def _mixed(record: LoadTest) -> Iterator[str]:
    """Requests of few votes among those of many."""
    phases = [found for found in record.of("mixed votes") if found.latency_ms_by_votes]
    if phases:
        yield "Latencies of mixed votes, by the request's own:"
        yield ""
        yield MIXED_HEADER
        yield _rule(MIXED_HEADER)
    for found in phases:
        for votes, latencies in found.latency_ms_by_votes.items():
            yield _row([found.phase.rule, str(votes), *_latencies(latencies)])


def _overhead(overhead: Overhead | None) -> Iterator[str]:
    if overhead is None:
        return
    yield ""
    yield (
        f"HTTP beside the same code in one process, {overhead.clients} clients of a leaner program than Locust, "
        f"{overhead.lanes} lanes, {overhead.rounds} rounds of turns of {overhead.turn_seconds:g} s:"
    )
    yield ""
    yield from overhead_table(overhead)


def overhead_table(overhead: Overhead) -> Sequence[str]:
    """One row for each number of votes."""
    rows = (
        [
            str(point.votes),
            f"{point.http_votes_per_second:.0f}",
            f"{point.in_process_votes_per_second:.0f}",
            f"{100 * point.kept:.1f}%",
            f"{point.client_processors:.2f}",
        ]
        for point in overhead.points
    )
    return [OVERHEAD_HEADER, _rule(OVERHEAD_HEADER), *map(_row, rows)]


def _others(found: Measurement) -> str:
    others = {outcome: count for outcome, count in found.outcomes.items() if outcome != "200"}
    return ", ".join(f"{outcome}: {count}" for outcome, count in others.items()) or "0"


def _latencies(found: Percentiles | None) -> Sequence[str]:
    return ["", "", ""] if found is None else [_ms(found.p50), _ms(found.p95), _ms(found.p99)]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(header: str) -> str:
    return "|" + "---|" * (header.count("|") - 1)
