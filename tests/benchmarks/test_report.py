"""Records of benchmarks."""

import json
from pathlib import Path

from benchmarks.report import machine, write


def test_records_tell_model_and_machine(tmp_path: Path) -> None:
    """A record names the model and version that was served, beside the machine and the figures, in both its forms."""
    write(tmp_path / "votes", {"votes": 7}, ["| votes |", "|---|", "| 7 |"], "Votes", "mnist-cnn 3")
    record = json.loads((tmp_path / "votes.json").read_text())
    assert record == {"model": "mnist-cnn 3", "machine": machine(), "figures": {"votes": 7}}
    *_, table, empty, measured = (tmp_path / "votes.md").read_text().splitlines()
    assert (table, empty) == ("| 7 |", "")
    assert measured.startswith("Model: mnist-cnn 3. Measured on: processor ")


def test_records_of_no_model_name_none(tmp_path: Path) -> None:
    """What no published model had a part in says nothing of one."""
    write(tmp_path / "draws", {}, [], "Draws")
    assert "Model" not in (tmp_path / "draws.md").read_text()
