"""Grafana's dashboard asks for metrics that the service has, by labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.exposition import HISTOGRAM_PARTS, exported_metrics

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy/grafana/noisevote.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
# Of the Prometheus client's process collector, and of Prometheus itself.
FOREIGN = {"process_cpu_seconds_total": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
EVERYWHERE = {"job", "instance"}


def queryable() -> dict[str, set[str]]:
    """Labels of every name that can be asked for."""
    names = dict(FOREIGN)
    for name, (kind, labels) in exported_metrics().items():
        if kind == "histogram":
            names |= {name + part: labels | ({"le"} if part == "_bucket" else set()) for part in HISTOGRAM_PARTS}
        else:
            names[name] = labels
    return names


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_names_metrics_and_labels_that_exist(expression: str) -> None:
    """Each metric is exported; each label that is matched or grouped by is one of every metric of the query."""
    known = queryable()
    names = re.findall(r"\b(?:noisevote|process)_\w+", expression)
    assert names
    assert set(names) <= set(known)
    for name, matchers in re.findall(r"\b((?:noisevote|process)_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name] | EVERYWHERE
    grouped = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(", ")}
    for name in names:
        assert grouped <= known[name] | EVERYWHERE
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_shows_labels_that_the_query_keeps(panel: dict[str, Any]) -> None:
    """What a legend names in braces is grouped by, or nothing was summed away."""
    for target in panel["targets"]:
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        assert shown <= (set(grouped[0].split(", ")) if grouped else EVERYWHERE)


@pytest.mark.parametrize("name", sorted(exported_metrics()))
def test_every_metric_is_shown(name: str) -> None:
    """No metric is exported that no panel looks at."""
    assert any(name in expression for expression in EXPRESSIONS)


def test_counters_are_asked_for_their_rate() -> None:
    """A bare counter says only how long the process has lived."""
    for expression in EXPRESSIONS:
        for start in (found.start() for found in re.finditer(r"\w+_total\b", expression)):
            assert re.search(r"\b(rate|increase)\($", expression[:start]), expression


def test_variables_and_panels_hold_together() -> None:
    """Every variable that is used is defined, ids are unique, panels do not overlap and say what they show."""
    defined = {variable["name"] for variable in VARIABLES} | {"__rate_interval", "__range", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= defined
    for variable in VARIABLES:
        if variable["type"] == "query":
            (metric, label) = re.findall(r"label_values\((\w+).*, (\w+)\)", variable["definition"])[0]
            assert label in queryable()[metric]
            assert variable["query"]["query"] == variable["definition"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["description"] for panel in PANELS)
