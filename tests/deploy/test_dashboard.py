"""Grafana's dashboard asks for metrics that the service has, by labels that they have."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import promql_parser as promql
import pytest

from tests.support.exposition import HISTOGRAM_PARTS, exported_metrics

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy/grafana/noisevote.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
# Of the Prometheus client's process collector, and of Prometheus itself.
FOREIGN = {"process_cpu_seconds_total": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
EVERYWHERE = {"job", "instance"}
Part = TypeVar("Part", bound=promql.Expr)


def queryable() -> dict[str, set[str]]:
    """Labels of every name that can be asked for."""
    names = dict(FOREIGN)
    for name, (kind, labels) in exported_metrics().items():
        if kind == "histogram":
            names |= {name + part: labels | ({"le"} if part == "_bucket" else set()) for part in HISTOGRAM_PARTS}
        else:
            names[name] = labels
    return names


def parsed(expression: str) -> promql.Expr:
    """The query as Prometheus reads it, once Grafana has put in its times; an error where it cannot be read."""
    return promql.parse(expression.replace("$__rate_interval", "1m").replace("$__range", "1h"))


def parts(expression: str, kind: type[Part]) -> list[Part]:
    """All parts of a query that are of one kind."""
    found: list[Part] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, kind):
            found.append(node)

    promql.walk(parsed(expression), visit)
    return found


def names(expression: str) -> list[str]:
    """The metrics of a query, as often as it asks for them."""
    return [str(selector.name) for selector in parts(expression, promql.VectorSelector)]


def grouped(expression: str) -> set[str]:
    """Labels that a query groups by."""
    modifiers = [aggregate.modifier for aggregate in parts(expression, promql.AggregateExpr)]
    assert all(modifier.type == promql.AggModifierType.By for modifier in modifiers if modifier is not None)
    return {label for modifier in modifiers if modifier is not None for label in modifier.labels}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_names_metrics_and_labels_that_exist(expression: str) -> None:
    """It can be read; each metric is exported; each label that is matched or grouped by is one of every metric."""
    known = queryable()
    asked = parts(expression, promql.VectorSelector)
    assert asked
    for selector in asked:
        assert selector.name in known
        labels = known[str(selector.name)] | EVERYWHERE
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels
        assert grouped(expression) <= labels


@pytest.mark.parametrize(
    "broken", ["sum(rate(noisevote_requests_total[1m])", "rate(noisevote_requests_total)", "ratio(noisevote_ready)"]
)
def test_a_broken_query_would_be_found(broken: str) -> None:
    """A missing parenthesis, a counter without a range, a function that there is not."""
    with pytest.raises(ValueError, match=r"parenthesis|matrix|unknown function"):
        parsed(broken)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_shows_labels_that_the_query_keeps(panel: dict[str, Any]) -> None:
    """What a legend names in braces is grouped by, or nothing was summed away."""
    for target in panel["targets"]:
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        aggregated = parts(target["expr"], promql.AggregateExpr)
        assert shown <= (grouped(target["expr"]) if aggregated else EVERYWHERE)


@pytest.mark.parametrize("name", sorted(exported_metrics()))
def test_every_metric_is_shown(name: str) -> None:
    """No metric is exported that no panel looks at."""
    assert any(name in expression for expression in EXPRESSIONS)


def test_counters_are_asked_for_their_rate() -> None:
    """A bare counter says only how long the process has lived."""
    for expression in EXPRESSIONS:
        calls = [call for call in parts(expression, promql.Call) if call.func.name in {"rate", "increase"}]
        ranges = [argument for call in calls for argument in call.args if isinstance(argument, promql.MatrixSelector)]
        rated = Counter(each.vector_selector.name for each in ranges)
        assert Counter(name for name in names(expression) if name.endswith("_total")) <= rated, expression


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
