import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.foreign_files import FILES, UnreachableError, measured_file
from benchmarks.foreign_networks import cases
from benchmarks.network_rows import BEGIN, END, Row, read_record, table, write_record
from benchmarks.networks import SIGMA, main, measured, snr
from noisevote.noise_op.injection import inject_noise

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_was_measured() -> None:
    """The table of docs/networks.md is made of the record, none of it typed by hand."""
    record = json.loads((ROOT / "docs" / "results" / "networks.json").read_text())
    rows = [Row(**row) for row in record["networks"]]
    page = (ROOT / "docs" / "networks.md").read_text()
    assert page.split(BEGIN)[1].split(END)[0] == f"\n{table(rows)}\n"
    assert len({row.name for row in rows}) == len(rows)


def test_records_of_several_runs_become_one(tmp_path: Path) -> None:
    """In the page's order; rows of networks whose packages are not installed here stay."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_record(first, {"timm resnet18": Row("timm resnet18", 21)}, ["timm resnet18"])
    write_record(second, {"GRU, text": Row("GRU, text", 133)}, ["GRU, text"])
    main(["--record", str(tmp_path / "all.json"), "--join", str(first), str(second), "--match"])
    assert [(row.name, row.products) for row in read_record(tmp_path / "all.json").values()] == [
        ("GRU, text", 133), ("timm resnet18", 21),
    ]  # fmt: skip


@pytest.mark.parametrize(("silent", "answer"), [(True, "no: 1 sites have no signal"), (False, " s.e.")])
def test_a_site_without_signal_is_no_site_whose_noise_is_right(silent: bool, answer: str) -> None:
    """Zeros have no noise relative to them, so nothing is known of that site."""
    last, example = nn.Linear(6, 3, bias=False), (torch.rand(4, 6),)
    if silent:
        nn.init.zeros_(last.weight)
    module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), last)
    assert snr(inject_noise(module, "multiplicative", SIGMA, example=example), example).endswith(answer)


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


@pytest.mark.prove
def test_a_file_is_taken_through_its_columns() -> None:
    """A foreign ONNX file works in each but training, which is not asked; one with a state is refused by name."""
    found = {each.title: each for each in FILES}
    try:
        works, refused = measured_file(found["OriNet"]), measured_file(found["silero-vad"])
    except UnreachableError as error:
        pytest.skip(str(error))
    assert works.works, works
    assert works.products == works.sites == found["OriNet"].products
    assert refused.exact.startswith("no: refused: ")
    assert "carries a state" in refused.exact
