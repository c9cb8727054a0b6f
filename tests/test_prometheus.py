"""The dashboard and the alert rules: what they ask for exists, by name and label, and each alert fires for its trouble.

Read by promtool and by a parser of PromQL where they are there, and by patterns everywhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
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
RULES_FILE = DEPLOY / "prometheus" / "voicegate-alerts.yml"
RULES = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))
RULE_TESTS = RULES_FILE.with_suffix(".test.yml")
DASHBOARD = json.loads((DEPLOY / "grafana" / "voicegate.json").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
_OF_THE_SCRAPE = {"job", "instance"}
"""Labels that Prometheus adds to every series."""
_FUNCTIONS = {"histogram_quantile", "sum", "rate", "increase", "max", "avg"}
_WORDS = {"by", "and", "or", "unless", "up"}


def series() -> dict[str, set[str]]:
    """Every series that `/metrics` can have, with its labels."""
    registry = CollectorRegistry()
    made = (metrics.Metrics(registry), metrics.HttpMetrics(registry), metrics.InferenceMetrics(registry))
    found: dict[str, set[str]] = {}
    for metric in (value for one in made for value in vars(one).values() if isinstance(value, MetricWrapperBase)):
        for suffix in _SUFFIXES[str(metric._type)]:
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
each_expression = pytest.mark.parametrize(
    ("name", "expression"), EXPRESSIONS, ids=[f"{number} {name}" for number, (name, _) in enumerate(EXPRESSIONS)]
)


def asked_for() -> set[str]:
    """Every series of ours that the dashboard or an alert asks for."""
    return {name for _, expression in EXPRESSIONS for name in re.findall(r"\bvoicegate_\w+", expression)}


# What the expressions ask for.


@each_expression
def test_an_expression_asks_for_series_and_labels_that_exist(name: str, expression: str) -> None:
    asked = re.findall(r"\b(voicegate_\w+|up)\b(?:\{([^}]*)\})?(\[[^\]]+\])?", expression)
    assert asked
    known = {**SERIES, "up": set()}
    for series_name, matchers, window in asked:
        assert series_name in known
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= known[series_name] | _OF_THE_SCRAPE
        counts = series_name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert bool(window) == counts, "a counter is read as a rate, a gauge as it stands"
    grouped = re.findall(r"by \(([^)]*)\) \((?:\w+\()?(voicegate_\w+)", expression)
    assert len(grouped) == expression.count("by (")
    for labels, series_name in grouped:
        assert {label.strip() for label in labels.split(",")} <= SERIES[series_name] | _OF_THE_SCRAPE


@each_expression
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


@each_expression
def test_a_parser_reads_an_expression_and_finds_in_it_only_what_exists(name: str, expression: str) -> None:
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed: pip install promql-parser")

    def labels_of(node: Any, *, windowed: bool = False) -> set[str]:
        """The labels that a node's result has; what it asks for is checked on the way."""
        match node:
            case promql.VectorSelector():
                counts = node.name.endswith(("_total", "_bucket", "_sum", "_count"))
                assert counts == windowed, f"{node.name}: a counter is read as a rate, a gauge as it stands"
                labels = (set() if node.name == "up" else SERIES[node.name]) | _OF_THE_SCRAPE
                assert {matcher.name for matcher in node.matchers.matchers} <= labels
                return labels
            case promql.MatrixSelector():
                return labels_of(node.vector_selector, windowed=True)
            case promql.Call():
                kept = set.union(*map(labels_of, node.args))
                if node.func.name == "histogram_quantile":
                    assert "le" in kept, "quantiles are made of buckets"
                return kept - {"le"} if node.func.name == "histogram_quantile" else kept
            case promql.AggregateExpr():
                below, kept = labels_of(node.expr), set(node.modifier.labels if node.modifier else [])
                assert kept <= below
                return kept
            case promql.BinaryExpr():
                return labels_of(node.lhs) | labels_of(node.rhs)
            case promql.ParenExpr() | promql.UnaryExpr():
                return labels_of(node.expr)
            case promql.NumberLiteral() | promql.StringLiteral():
                return set()
        raise AssertionError(f"an expression of a kind that this test does not know: {type(node).__name__}")

    kept = labels_of(promql.parse(expression.replace("$__rate_interval", "5m")))
    shown = {
        label
        for panel in PANELS
        for target in panel["targets"]
        if target["expr"] == expression
        for label in re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])
    }
    assert shown <= kept, "a legend names a label that the result does not have"


# Alerts.


def test_alerts_say_what_is_wrong_and_the_mend() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        told = " ".join(rule["annotations"].values())
        grouped = set(re.findall(r"by \(([^)]*)\)", rule["expr"])[:1])
        known = {label.strip() for group in grouped for label in group.split(",")}
        if not grouped:
            known = _OF_THE_SCRAPE
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= known


def test_what_an_alert_counts_is_there_at_zero_before_it_happens() -> None:
    """Prometheus sees no increase in a series that begins with its first event: the first of all would be missed."""
    registry = CollectorRegistry()
    metrics.Metrics(registry)
    counted = {
        (name, label, value)
        for rule in ALERTS
        for name, matchers in re.findall(r"(?:rate|increase)\((voicegate_\w+_total)\{([^}]*)\}", rule["expr"])
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers)
        for value in values.split("|")
    }
    of_engines = {one for one in counted if one[0].startswith(("voicegate_inference_", "voicegate_model_"))}
    assert len(counted - of_engines) >= 6
    for name, label, value in counted - of_engines:
        assert registry.get_sample_value(name, {label: value}) == 0.0, f"{name}{{{label}={value!r}}}"


def test_every_kind_of_loss_is_counted_from_zero() -> None:
    """The words are written where they happen; one that is new there belongs into `gateway.metrics`, too."""
    sources = [path.read_text(encoding="utf-8") for path in (DEPLOY.parent / "gateway").glob("**/*.py")]
    for metric, words, extra in (
        ("dropped", metrics._DROPPED, r"(?!)"),
        ("refused", metrics._REFUSED, r'_refuse\(\s*"(\w+)"'),
    ):
        pattern = rf'\.{metric}\.labels\("(\w+)"\)|{extra}'
        found = {next(filter(None, groups)) for text in sources for groups in _groups(pattern, text)}
        assert found == set(words)


def _groups(pattern: str, text: str) -> Iterator[tuple[str, ...]]:
    for match in re.finditer(pattern, text):
        yield tuple(group or "" for group in match.groups())


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", str(RULES_FILE))
    assert done.returncode == 0 and f"{len(ALERTS)} rules found" in done.stdout, done.stdout + done.stderr


def test_promtool_sees_every_alert_fire_for_its_trouble_alone() -> None:
    done = promtool("test", "rules", str(RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))
    assert tests["rule_files"] == [RULES_FILE.name]
    fires = {
        found
        for test in tests["tests"]
        for query in test["promql_expr_test"]
        for sample in query["exp_samples"]
        for found in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fires == {rule["alert"] for rule in ALERTS}
    given = {
        name for test in tests["tests"] for one in test["input_series"] for name in re.findall(r"^\w+", one["series"])
    }
    assert given - {"up"} <= set(SERIES)


# The dashboard: the required fields of Grafana's classic model (kinds/dashboard/dashboard_kind.cue, and its documents).


def test_the_dashboard_has_what_grafana_s_model_requires() -> None:
    assert {"title", "uid", "schemaVersion", "editable", "graphTooltip", "panels", "time", "templating"} <= set(
        DASHBOARD
    )
    assert isinstance(DASHBOARD["schemaVersion"], int) and DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["editable"] is True and DASHBOARD["graphTooltip"] in (0, 1, 2)
    assert re.fullmatch(r"[\w-]{8,40}", DASHBOARD["uid"]) and "id" not in DASHBOARD  # an id is one Grafana's own
    assert set(DASHBOARD["time"]) == {"from", "to"} and re.fullmatch(r"\d+[smhd]", DASHBOARD["refresh"])
    (source,) = DASHBOARD["templating"]["list"]
    assert (source["type"], source["name"], source["query"]) == ("datasource", "datasource", "prometheus")


def test_a_panel_has_what_grafana_s_model_requires() -> None:
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert panel["title"] and panel["id"] > 0
        assert at["h"] > 0 and 0 < at["w"] <= 24 and 0 <= at["x"] < 24 and at["y"] >= 0
        if panel["type"] == "row":
            assert (panel["collapsed"], panel["panels"]) == (False, [])
            continue
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["overrides"] == [] and panel["fieldConfig"]["defaults"]["unit"]
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": [{"value": None}]})["steps"]
        values = [step["value"] for step in steps]
        assert values[0] is None and values[1:] == sorted(values[1:])  # the first reaches down without end
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(ord("A") + number) for number in range(len(refs))]


def test_panels_do_not_overlap_and_every_budget_has_one() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    asked = " ".join(expression for _, expression in EXPRESSIONS)
    for budget in ("first_utterance", "endpoint_to_reply", "barge_in", "frame_delay"):
        assert f"voicegate_{budget}_seconds_bucket" in asked
