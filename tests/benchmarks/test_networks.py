import json
from pathlib import Path

import pytest

from benchmarks.foreign_networks import cases
from benchmarks.networks import BEGIN, END, Row, measured, table

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_was_measured() -> None:
    """The table of docs/networks.md is made of the record, none of it typed by hand."""
    record = json.loads((ROOT / "docs" / "results" / "networks.json").read_text())
    rows = [Row(**row) for row in record["networks"]]
    page = (ROOT / "docs" / "networks.md").read_text()
    assert page.split(BEGIN)[1].split(END)[0] == f"\n{table(rows)}\n"
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MLP, numbers and categories", "CNN, 1-D audio"])
def test_a_network_is_taken_through_every_column(name: str) -> None:
    """Products counted apart from our tracing are as many as the sites, and each column says yes."""
    (case,) = (case for case in cases() if case.name == name)
    row = measured(case)
    assert row.products == row.sites + row.digital
    assert row.works, row


@pytest.mark.prove
@pytest.mark.parametrize("name", ["LSTM, text", "RNN, text", "Transformer, text", "Transformer, text, sequence first"])
def test_recurrences_and_transformers_are_too(name: str) -> None:
    """As above; these take a while to export."""
    (case,) = (case for case in cases() if case.name == name)
    row = measured(case)
    assert row.works, row
