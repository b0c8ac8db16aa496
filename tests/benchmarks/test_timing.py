import json
from pathlib import Path

import pytest

from benchmarks.report import write
from benchmarks.timing import Timings, in_turns


def test_contenders_run_in_turns() -> None:
    """Every round runs each contender once, in order, and the warm-up rounds are not counted."""
    calls: list[str] = []
    timings = in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warm_up=1)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert "".join(calls) == "abababab"
    assert {name: len(seconds) for name, seconds in timings.seconds.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down by half after one round leaves the ratio as it is; medians of each side would not."""
    timings = Timings({"a": [1.0, 20.0, 2.0], "b": [2.0, 40.0, 5.0]})
    assert timings.ratio("a", "b") == pytest.approx(0.5)
    assert timings.median("a") == 2.0


def test_a_report_holds_figures_table_and_machine(tmp_path: Path) -> None:
    """The JSON keeps the figures exactly and the document shows the table and where it was measured."""
    write(tmp_path / "figures", {"draws": {"kernel (ns)": 1.25}}, ["| a |", "|---|", "| 1.25 |"], "Title")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["figures"] == {"draws": {"kernel (ns)": 1.25}}
    document = (tmp_path / "figures.md").read_text()
    assert document.startswith("# Title\n\n| a |\n|---|\n| 1.25 |\n")
    assert written["machine"]["processor"] in document
