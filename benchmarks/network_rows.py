"""What was found of a network: a row of docs/networks.md, kept in a record."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from noisevote.noise_op import errors as onnx_errors
from noisevote.noise_op.errors import UninjectableError

BEGIN, END = "<!-- table -->", "<!-- /table -->"
UNASKED: Final = "—"


@dataclass
class Row:
    """What was found of one network; "yes" or a figure, or "no: " and the reason."""

    name: str
    products: int = 0
    sites: int = 0
    digital: int = 0
    exact: str = "no: not reached"
    snr: str = "no: not reached"
    trains: str = "no: not reached"
    exports: str = "no: not reached"
    serves: str = "no: not reached"
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        """Whether no answer is a no."""
        return not any(answer.startswith("no") for answer in self.answers())

    def answers(self) -> list[str]:
        """Of the columns."""
        return [self.exact, self.snr, self.trains, self.exports, self.serves]


def answered(question: Callable[[], str]) -> str:
    """The answer, or the reason that there is none."""
    try:
        return question()
    except Exception as error:  # whatever the network makes of it
        return refusal(error)


def refusal(error: Exception) -> str:
    """A no with its reason, in a cell of a table."""
    first = next(iter(str(error).strip().splitlines()), "")
    kind = "refused" if isinstance(error, onnx_errors.UninjectableError | UninjectableError) else type(error).__name__
    return f"no: {kind}: {first}".replace("|", "/")[:200]


def read_record(record: Path) -> dict[str, Row]:
    """The rows that a record holds, by name; none where there is no record yet."""
    if not record.exists():
        return {}
    return {row["name"]: Row(**row) for row in json.loads(record.read_text())["networks"]}


def write_record(record: Path, rows: dict[str, Row], order: Iterable[str]) -> None:
    """Keep what is measured, in the order of the page."""
    found = [asdict(rows[name]) for name in order if name in rows]
    record.write_text(json.dumps({"networks": found}, indent=1, ensure_ascii=False) + "\n")


def write_page(page: Path, rows: Sequence[Row]) -> None:
    """Put the table into its place in the page."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


def table(rows: Sequence[Row]) -> str:
    """The Markdown table, and its sums."""
    header = "| network | products | sites | digital | exact at sigma 0 | SNR | trains | exports | serves |"
    lines = [header, "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.products} | {row.sites} | {row.digital} | {' | '.join(row.answers())} |" for row in rows
    ]
    works, sites = sum(row.works for row in rows), sum(row.sites for row in rows)
    return "\n".join(
        [*lines, "", f"{works} of {len(rows)} networks tried work in every column; all together have {sites:,} sites."]
    )
