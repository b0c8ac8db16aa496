"""The README's table and figure."""

import json
from pathlib import Path

from benchmarks.front_page import RESULTS, THEMES, make


def test_front_page_is_that_of_its_records(tmp_path: Path) -> None:
    """The table and both figures in the repository are what the records give, byte for byte."""
    made = make(RESULTS, tmp_path)
    assert [path.name for path in made] == ["front-page.md", *(f"front-page-{name}.svg" for name in THEMES)]
    for path in made:
        assert path.read_bytes() == (RESULTS / path.name).read_bytes(), path.name


def test_the_table_follows_the_record(tmp_path: Path) -> None:
    """Another measurement gives another row: accuracies in the order of the header, with the paper's digits."""
    record = json.loads((RESULTS / "mnist-cnn-http.json").read_text())
    record["figures"][5] |= {"one_run_percent": 81.034, "one_run_paper_percent": 77.7, "accuracy_percent": 12.346}
    (tmp_path / "mnist-cnn-http.json").write_text(json.dumps(record))
    (tmp_path / "runs").symlink_to(RESULTS / "runs")
    page, *_ = make(tmp_path, tmp_path / "out")
    assert "| 1.0 | 81.03 | 77.7 | 12.35 | 99.5 |" in page.read_text().splitlines()
