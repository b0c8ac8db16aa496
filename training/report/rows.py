"""Rows of tables in Markdown, and what stands in their cells."""

from collections.abc import Iterable, Sequence


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
