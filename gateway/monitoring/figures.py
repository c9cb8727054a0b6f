"""A gateway's metrics as JSON, for pages: what `/metrics` says, without a parser of its text in the browser.

Histograms keep their cumulative buckets, since percentiles over a time of the reader's choice come from the difference
of two readings, not from one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["all_workers", "figures_of"]

_OURS: Final = "voicegate_"


def all_workers() -> CollectorRegistry:
    """The metrics of all processes of this gateway; of this one alone where they share no folder."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # set by the supervisor, read by prometheus_client itself
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def figures_of(families: Iterable[Metric]) -> dict[str, list[dict[str, Any]]]:
    """Our metrics by name.

    Returns:
        For each combination of labels an object: `labels`, and `value`; or for histograms and summaries `sum`,
        `count` and, of a histogram, `buckets`: pairs of an upper bound (seconds, jobs; None: no bound) and how many
        there were up to it.
    """
    return {family.name: _series(family) for family in families if family.name.startswith(_OURS)}


def _series(family: Metric) -> list[dict[str, Any]]:
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = found.setdefault(tuple(sorted(labels.items())), {"labels": labels})
        match sample.name.removeprefix(family.name):
            case "_bucket":
                bound = sample.labels["le"]
                one.setdefault("buckets", []).append([None if bound == "+Inf" else float(bound), sample.value])
            case "_sum":
                one["sum"] = sample.value
            case "_count":
                one["count"] = sample.value
            case _:
                one["value"] = sample.value
    for one in found.values():
        if "buckets" in one:
            one["buckets"].sort(key=lambda pair: float("inf") if pair[0] is None else pair[0])
    return list(found.values())
