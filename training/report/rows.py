"""Rows of tables in Markdown, and what stands in their cells."""

from collections.abc import Iterable, Sequence

from noisevote.training.report.defence_numbers import Interval


def header(cells: Sequence[str]) -> Iterable[str]:
    """The first row and the line below it."""
    yield row(cells)
    yield "|" + "---|" * len(cells)


def row(cells: Sequence[str]) -> str:
    """A row."""
    return f"| {' | '.join(cells)} |"


def percent(found: float | None) -> str:
    """A share in % with two digits; a dash where there is none."""
    return "–" if found is None else f"{100 * found:.2f}"


def with_interval(found: Interval) -> str:
    """A share in %, and its interval."""
    return f"{percent(found.estimate)} ({percent(found.low)} … {percent(found.high)})"


def in_points(found: Interval) -> str:
    """A difference of shares in points, and its interval."""
    return f"{100 * found.estimate:+.2f} ({100 * found.low:+.2f} … {100 * found.high:+.2f})"
