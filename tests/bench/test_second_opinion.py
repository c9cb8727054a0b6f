"""The table of thresholds, from answers that are known."""

from __future__ import annotations

import pytest

from bench.second_opinion import weigh_all
from nlu.data import Example
from nlu.meaning import Meaning

pytestmark = pytest.mark.unit


def test_the_light_answer_stands_where_it_is_sure_and_time_grows_with_those_asked() -> None:
    examples = [Example(text=text, intent="a", slots=()) for text in ("one", "two", "three", "four")]
    light = [Meaning("a", 0.99), Meaning("b", 0.4), Meaning("b", 0.8), Meaning("a", 0.6)]
    heavy = [Meaning("b", 0.9), Meaning("a", 0.9), Meaning("a", 0.9), Meaning("a", 0.9)]
    rows = weigh_all(examples, light, heavy, light_ms=1.0, heavy_ms=10.0, thresholds=(0.0, 0.5, 0.9, 1.01))
    assert [row.asked for row in rows] == [0.0, 0.25, 0.75, 1.0]
    assert [row.intent for row in rows] == [0.5, 0.75, 1.0, 0.75]
    assert [row.mean_ms for row in rows] == [1.0, 3.5, 8.5, 11.0]
