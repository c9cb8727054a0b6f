"""Charts: the numbers behind them by value, the markup by what a reader would see."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.replay.charts import histogram, log_bins, nice_ticks, over_time, time_chart

pytestmark = pytest.mark.unit


def test_bins_grow_by_equal_factors() -> None:
    edges, counts = log_bins([1.0, 9.0, 11.0, 100.0], 2)
    assert edges == pytest.approx([1, 10, 100])
    assert counts == [2, 2]


def test_an_axis_reaches_as_far_as_asked() -> None:
    edges, counts = log_bins([1.0, 2.0], 2, reach=100)
    assert edges == pytest.approx([1, 10, 100]) and counts == [2, 0]


def test_equal_values_still_make_an_axis() -> None:
    edges, counts = log_bins([50.0, 50.0], 3)
    assert edges[0] < 50 < edges[-1] and sum(counts) == 2


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 40))
def test_every_value_is_in_a_bin(values: list[float], count: int) -> None:
    edges, counts = log_bins(values, count)
    assert sum(counts) == len(values) and len(edges) == len(counts) + 1
    assert edges == sorted(edges)


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (0, [0, 1]),
        (4, [0, 1, 2, 3, 4]),
        (7, [0, 2, 4, 6, 8]),
        (100, [0, 50, 100]),
        (0.3, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round_and_reach_the_top(high: float, ticks: list[float]) -> None:
    assert nice_ticks(high) == pytest.approx(ticks)


def test_ticks_of_counts_are_whole() -> None:
    assert nice_ticks(2, whole=True) == [0, 1, 2]
    assert nice_ticks(30, whole=True) == [0, 10, 20, 30]


@given(st.floats(1e-3, 1e7))
def test_ticks_are_few(high: float) -> None:
    ticks = nice_ticks(high)
    assert ticks[-1] >= high * 0.999 and 2 <= len(ticks) <= 7


def test_values_are_gathered_in_stretches_of_time() -> None:
    points = [(0.0, 3.0), (0.9, 1.0), (5.5, 7.0), (10.0, 8.0)]
    assert over_time(points, until_s=10, buckets=10) == [(0.5, [1.0, 3.0]), (5.5, [7.0]), (9.5, [8.0])]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_a_histogram_shows_every_bar_and_both_limits() -> None:
    svg = histogram("reply", [1.0] * 3 + [40.0], {"p50": 20.0, "p99": 200.0})
    root = ElementTree.fromstring(svg)
    titles = [element.text or "" for element in root.iter("title")]
    assert [title.rpartition(": ")[2] for title in titles] == ["3", "1"]
    assert {"p50 ≤ 20", "p99 ≤ 200"} <= set(texts(svg))
    assert "4 values" in root.attrib["aria-label"]
    for line in root.iter("line"):
        assert 0 <= float(line.attrib["x1"]) <= 360


def test_a_time_chart_draws_the_values_to_scale_and_names_two_lines() -> None:
    svg = time_chart("calls", {"p50": [(0.0, 0.0), (10.0, 4.0)], "max": [(5.0, 2.0)]}, until_s=10, unit="<ms>")
    root = ElementTree.fromstring(svg)
    first, second = [line.attrib["points"] for line in root.iter("polyline")]
    assert first == "40.0,164.0 350.0,22.0"
    assert second == "195.0,93.0"
    assert {"p50", "max", "<ms>", "seconds"} <= set(texts(svg))


def test_a_limit_is_drawn_where_the_line_comes_near_it() -> None:
    def drawn(highest: float) -> str:
        return time_chart("t", {"p50": [(0.0, 1.0), (1.0, highest)]}, until_s=1.0, unit="ms", limit=20.0)

    assert "stroke-dasharray" not in drawn(4.9) and "stroke-dasharray" in drawn(5.0)
    assert ">20</text>" in drawn(5.0), "the axis reaches it"
    assert "stroke-dasharray" in drawn(300.0)


def test_limits_below_all_values_lie_on_the_axis_too() -> None:
    edges, counts = log_bins([1500.0, 4000.0], 10, reach=1113.0, begin=836.0)
    assert edges[0] == pytest.approx(836) and edges[-1] == pytest.approx(4000) and sum(counts) == 2
    drawn = histogram("t", [1500.0], {"p50": 880})
    places = [float(x) for x in re.findall(r'<line x1="([\d.]+)" x2="[\d.]+" y1="22"', drawn)]
    assert places and all(40 <= x <= 350 for x in places)
