"""The judgement over a soak's samples, the plot that draws them, the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import Sample, plot, read_samples, save, verdict

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
    drawn = plot(samples("keys", [1.0, 2.0, 3.0]), "3 calls & more")
    assert drawn.count("<svg") == 2 and "3 calls &amp; more" in drawn


def test_samples_are_read_again_as_they_were_saved(tmp_path: Path) -> None:
    taken = [Sample(0.0, 1, {"keys": 2.0, "fds": 3.0}), Sample(5.0, 4, {"keys": 5.0, "fds": 6.0}, run=1)]
    save(taken, tmp_path / "soak.json")
    assert read_samples(tmp_path / "soak.json") == taken
    assert [path.name for path in tmp_path.iterdir()] == ["soak.json"]
