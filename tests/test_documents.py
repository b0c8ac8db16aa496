import re
from pathlib import Path

import pytest

from noisevote.service.settings import Settings
from tests.support.exposition import HISTOGRAM_PARTS, exported_metrics

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has one row a setting, no other, and the defaults that the code has."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(Settings.model_fields)
    for name, documented in rows:
        default = Settings.model_fields[name].default
        if documented.startswith("`"):
            assert documented == f"`{default}`", name


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """docs/metrics.md has one row a metric and no other, and asks no question about a metric that is not there."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(noisevote_\w+)` \| (\w+) \| ([\w, ]*)\|", text, re.MULTILINE)
    documented = {name: (kind, set(labels.replace(",", " ").split())) for name, kind, labels in rows}
    exported = exported_metrics()
    assert documented == exported
    parts = {f"{name}{part}" for name, (kind, _) in exported.items() if kind == "histogram" for part in HISTOGRAM_PARTS}
    assert set(re.findall(r"noisevote_\w+", text)) <= set(exported) | parts


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link and every picture of a document is a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_figures_in_the_readme_are_those_on_record() -> None:
    """Every row of the README's tables of figures stands, as it is, in a file that the benchmarks wrote."""
    recorded = {line for record in (ROOT / "docs" / "results").glob("*.md") for line in record.read_text().splitlines()}
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"\|.*\d.*\|$", line)]
    assert shown
    assert set(shown) <= recorded
