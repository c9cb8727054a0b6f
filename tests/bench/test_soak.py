"""The judgement over a soak's samples, and the page that draws them."""

from __future__ import annotations

import pytest

from bench.soak import Sample, page, verdict

pytestmark = pytest.mark.unit


def samples(name: str, values: list[float]) -> list[Sample]:
    return [Sample(5.0 * n, n, {name: value}) for n, value in enumerate(values)]


def test_what_settles_is_flat_and_what_goes_on_growing_is_not() -> None:
    settled = samples("worker rss_mb", [100, 120, 130, 131, 130, 131, 132, 131, 132])
    growing = samples("worker rss_mb", [100, 120, 130, 140, 150, 160, 170, 180, 190])
    assert verdict(settled) == {"worker rss_mb": (131, 132, True)}
    assert verdict(growing) == {"worker rss_mb": (150, 180, False)}


def test_little_may_come_and_go() -> None:
    assert verdict(samples("fds", [40, 40, 40, 42, 42, 42, 45, 45, 45]))["fds"][2]
    assert not verdict(samples("fds", [40, 40, 40, 42, 42, 42, 50, 50, 50]))["fds"][2]


def test_each_figure_is_drawn() -> None:
    drawn = page(samples("keys", [1.0, 2.0, 3.0]), "3 calls & more")
    assert drawn.count("<svg") == 1 and "3 calls &amp; more" in drawn
