import re
from pathlib import Path

import pytest

from noisevote.service.settings import Settings
from tests.support.exposition import HISTOGRAM_PARTS, exported_metrics

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
WITH_FIGURES = [ROOT / "README.md", RESULTS / "README.md"]
MAX_README_LINES = 100
WRITTEN = {"model_store/models/mnist-cnn/4"}  # by a command that a document shows
ROOMS = ("voting", "noise_op", "model_store", "engine", "evaluation", "training", "service", "loadtest", "deploy")
PATHS = ("noisevote", "benchmarks", "docs", "examples", "tests", "requirements", *ROOMS)


def name(document: Path) -> str:
    """A document as a test names it."""
    return str(document.relative_to(ROOT))


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link and every picture of a document is a file of the repository, every #anchor a heading."""
    text = document.read_text()
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'\b(?:src|srcset|href)="([^"]+)"', text)
    for link in links:
        if link.startswith(("http:", "https:")):
            continue
        target, _, anchor = link.partition("#")
        path = document.parent / target if target else document
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def anchors(document: Path) -> set[str]:
    """The #names that GitHub gives the headings of a document."""
    outside_code = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_documents_name_files_that_exist(document: Path) -> None:
    """Every path of a file or folder that a document mentions, in a sentence or in code, is there."""
    named = re.findall(rf"(?<![\w/.-])(?:{'|'.join(PATHS)})(?:/[\w.-]+)+/?(?![\w*<{{])", document.read_text())
    missing = {path.rstrip("./") for path in named if not (ROOT / path.rstrip(".")).exists()}
    with_suffix = {path for path in missing if list(ROOT.glob(f"{path}.*"))}  # as flags name a record: all its files
    assert not missing - with_suffix - WRITTEN


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_modules_that_documents_import_exist(document: Path) -> None:
    """`noisevote.…` in a document is a module of the package, or something in one."""
    for dotted in re.findall(r"\bnoisevote(?:\.\w+)+", document.read_text()):
        parts = dotted.split(".")[1:]
        if parts[0] in ROOMS:
            inside = ROOT.joinpath(*parts)
            places = (inside, inside.with_suffix(".py"), inside.parent.with_suffix(".py"))
            assert any(place.exists() for place in places), dotted


@pytest.mark.parametrize("document", WITH_FIGURES, ids=name)
def test_figures_in_the_readmes_are_those_on_record(document: Path) -> None:
    """Every row of a README's tables of figures stands, as it is, in a file that a command wrote from records."""
    records = [page for page in RESULTS.glob("*.md") if page not in WITH_FIGURES]
    recorded = {line for page in records for line in page.read_text().splitlines()}
    rows = [line for line in document.read_text().splitlines() if re.match(r"\|.*\d.*\|$", line)]
    figures = [row for row in rows if re.search(r"\d", re.sub(r"\[[^]]*\]\([^)]*\)", "", row))]  # not in names of links
    assert figures
    assert set(figures) <= recorded


def test_a_word_has_one_meaning() -> None:
    """docs/glossary.md explains none twice."""
    text = (ROOT / "docs" / "glossary.md").read_text()
    words = [word for row in re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE) for word in row.split(", ")]
    twice = {word for word in words if words.count(word) > 1}
    assert twice == {"word"}, twice  # the head of each table


def test_the_walk_of_a_request_names_each_file_once() -> None:
    """In docs/architecture.md; what a request passes first is where it is accepted, what it passes last its account."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    walk = text.partition("## The walk of a predict request")[2].partition("\n## ")[0]
    files = re.findall(r"^\| `([\w/]+\.py)` \|", walk.partition("\n\n| ")[2].partition("\n\n")[0], re.MULTILINE)
    assert (files[0], files[-1]) == ("service/connections/accepting.py", "service/prediction/accounting.py")
    assert len(files) == len(set(files))


def test_every_record_is_in_the_index() -> None:
    """docs/results/README.md links to every page of results."""
    text = (RESULTS / "README.md").read_text()
    assert {f"({page.name})" for page in RESULTS.glob("*.md") if page.name != "README.md"} <= set(
        re.findall(r"\([^)]*\)", text)
    )


def test_the_readme_is_a_front_page() -> None:
    """It can be read in a minute; what is longer belongs into docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES
