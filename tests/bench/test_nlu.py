"""The bench of understanding: what it counts, and whole runs on the bundled model, too short to judge it by."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from bench import nlu
from gateway.inference.batching import BatcherSettings
from gateway.inference.model_serving import ModelServing
from gateway.metrics import InferenceMetrics
from tests.fakes import KeywordNlu

pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bench keeps its process on one core and one thread; the tests' process stays as it is."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None)
    yield
    torch.set_num_threads(threads)


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["bench.nlu", *arguments, "--device", "cpu", "--json", str(out)])
    nlu.main()
    document: dict[str, object] = json.loads(out.read_text())
    return document


async def test_rows_count_what_was_asked_and_the_batches_it_went_in() -> None:
    registry = CollectorRegistry()
    serving = ModelServing(
        {nlu.BOT: KeywordNlu({})}, settings=BatcherSettings(max_queue=4), metrics=InferenceMetrics(registry)
    )
    async with serving:
        load = nlu.Load(serving, registry)
        await asyncio.gather(*(load.ask("text") for _ in range(10)))
        row = load.row(askers=10)
        assert (row.refused, row.askers, row.offered_per_s) == (6, 10, 0.0)
        assert row.mean_batch == 4.0 and row.p50_ms <= row.p90_ms <= row.p99_ms
        again = nlu.Load(serving, registry)
        await again.ask("text")
        assert (again.row().mean_batch, again.row().refused) == (1.0, 0), "a row counts what is its own"


async def test_an_open_load_comes_at_its_rate_whether_or_not_it_is_answered() -> None:
    begun: list[int] = []

    async def begin(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0.05)

    loop = asyncio.get_running_loop()
    until = loop.time() + 0.5
    await nlu.at_rate(200, lambda: loop.time() < until, begin)
    assert begun == list(range(len(begun))) and 40 < len(begun) < 160


def test_a_run_writes_a_row_for_each_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = run(monkeypatch, tmp_path / "out.json", "--askers", "1,4", "--rates", "20", "--seconds", "0.4")
    one, four, at_rate = document["rows"]  # type: ignore[misc]
    assert (one["askers"], four["askers"], at_rate["offered_per_s"]) == (1, 4, 20.0)
    assert one["mean_batch"] == 1.0 and 1.0 <= four["mean_batch"] <= 4.0
    assert one["refused"] == four["refused"] == 0 and one["cpu_ms"] > 0
    assert set(document) == {"machine", "settings", "rows"}


def test_a_swap_fails_nothing_and_mixes_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = run(monkeypatch, tmp_path / "out.json", "--swap", "--rate", "30", "--seconds", "0.9")
    swap = document["swap"]
    assert isinstance(swap, dict)
    assert (swap["failed"], swap["mixed"]) == (0, 0)
    assert len(swap["by_version"]) == 2 and sum(swap["by_version"].values()) == swap["requests"] - swap["shed"]
    assert swap["requests"] == 2 * swap["turns"] > 0


def test_a_length_that_no_line_has_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no line of 99 tokens"):
        run(monkeypatch, tmp_path / "out.json", "--tokens", "99")
