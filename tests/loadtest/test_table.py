import re

from noisevote.loadtest import table
from tests.support.load_samples import load_test

LINES = table.lines(load_test())


def rows(part: str) -> list[list[str]]:
    """Cells of the rows that begin so."""
    return [line.strip("| ").split(" | ") for line in LINES if line.startswith(f"| {part} |")]


def test_every_phase_but_the_warm_up_is_a_row() -> None:
    """With requests that got no answer beside those that did, and empty cells where there is no figure."""
    assert LINES.count(table.HEADER) == 1
    assert not rows("warm-up")
    unanswered, answered = (
        line for line in LINES if line.startswith("| votes | 1 | 0") or "| votes | 20 |" in line[:15]
    )
    assert unanswered.startswith(
        "| votes | 1 | 0.8 | fixed | 4 clients | 0 | 429: 1, ConnectionRefusedError: 1 |  |  |  | 0.0 | 0 |  |"
    )
    # 30 answers of 50 ms, the last after 2.95 s, with 15 votes each
    assert answered == ("| votes | 20 | 0.8 | fixed | 4 clients | 30 | 0 | 50.0 | 50.0 |  | 10.2 | 153 |  |  | 0.17 |")


def test_saved_votes_and_late_starts_are_shown_where_they_mean_something() -> None:
    """A stopping rule saves; an open loop may start late."""
    (stopping,), (offered,) = rows("early stopping"), rows("offered rate")
    assert stopping[12:14] == ["25.0%", ""]
    assert offered[4] == "10.0 requests/s"
    assert offered[12:14] == ["", "0.0"]


def test_mixed_votes_are_shown_by_the_request_s_own() -> None:
    """One row of latencies for each number."""
    assert [cells[1] for cells in rows("fixed")] == ["1", "20"]


def test_what_http_keeps_is_shown_where_it_was_measured() -> None:
    """The ratio beside both rates; without a measurement there is no table."""
    assert "| 20 | 900 | 1000 | 90.0% | 0.12 |" in LINES
    assert table.OVERHEAD_HEADER not in table.lines(load_test(None))


def test_tables_are_markdown() -> None:
    """Every row of a table has as many cells as its header."""
    width = None
    for line in LINES:
        width = len(re.findall(r"\|", line)) if line.startswith("|") and width is None else width
        assert not line.startswith("|") or len(re.findall(r"\|", line)) == width, line
        width = width if line.startswith("|") else None
