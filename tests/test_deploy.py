"""The dashboard and the alert rules: what they ask for exists, by name and label, and can be read as PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway import metrics

pytestmark = pytest.mark.unit

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "voicegate-alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "voicegate.json").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
_FUNCTIONS = {"histogram_quantile", "sum", "rate", "increase", "max", "avg"}
_WORDS = {"by", "and", "or", "unless"}


def series() -> dict[str, set[str]]:
    """Every series that `/metrics` can have, with its labels."""
    registry = CollectorRegistry()
    made = (metrics.Metrics(registry), metrics.HttpMetrics(registry), metrics.InferenceMetrics(registry))
    found: dict[str, set[str]] = {}
    for metric in (value for one in made for value in vars(one).values() if isinstance(value, MetricWrapperBase)):
        for suffix in _SUFFIXES[metric._type]:
            found[metric._name + suffix] = {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
    return found


SERIES = series()


def expressions() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_an_expression_asks_for_series_and_labels_that_exist(name: str, expression: str) -> None:
    asked = re.findall(r"\b(voicegate_\w+)(?:\{([^}]*)\})?(\[[^\]]+\])?", expression)
    assert asked
    for series_name, matchers, window in asked:
        assert series_name in SERIES
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= SERIES[series_name]
        counts = series_name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert bool(window) == counts, "a counter is read as a rate, a gauge as it stands"
    grouped = re.findall(r"by \(([^)]*)\) \((?:\w+\()?(voicegate_\w+)", expression)
    assert len(grouped) == expression.count("by (")
    for labels, series_name in grouped:
        assert {label.strip() for label in labels.split(",")} <= SERIES[series_name]


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_an_expression_can_be_read(name: str, expression: str) -> None:
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[(\d+[smhd]|\$__rate_interval)\]|by \([^)]*\)", "", bare)
    words = set(re.findall(r"[a-z_]\w*", bare)) - set(SERIES)
    assert words <= _FUNCTIONS | _WORDS
    assert set(re.findall(r"([a-z_]+)\s*\(", bare)) <= _FUNCTIONS | _WORDS
    if "histogram_quantile" in expression:
        assert re.search(r"histogram_quantile\(0\.\d+, sum by \(le[^)]*\) \(rate\(\w+_bucket", expression)


def test_alerts_say_what_is_wrong_and_the_mend() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        told = " ".join(rule["annotations"].values())
        grouped = set(re.findall(r"by \(([^)]*)\)", rule["expr"])[:1])
        known = {label.strip() for group in grouped for label in group.split(",")}
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= known


def test_panels_do_not_overlap_and_every_budget_has_one() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    asked = " ".join(expression for _, expression in EXPRESSIONS)
    for budget in ("first_utterance", "endpoint_to_reply", "barge_in", "loop_lag"):
        assert f"voicegate_{budget}_seconds_bucket" in asked
