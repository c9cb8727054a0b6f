"""Figures and outcomes for pages."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.monitoring.figures import figures_of
from gateway.monitoring.outcomes import count_outcomes
from tests.gateway.harness import write_bot
from tests.gateway.http_harness import api

_streams = count(1)


@pytest.mark.unit
def test_figures_are_what_the_metrics_say() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.calls.labels("native").inc(3)
    metrics.turns.labels("words").inc()
    metrics.turns.labels("words").inc()
    metrics.endpoint_to_reply.observe(0.012)
    metrics.endpoint_to_reply.observe(0.25)
    figures = figures_of(registry.collect())
    assert figures["voicegate_calls"] == [{"labels": {"protocol": "native"}, "value": 3.0}]
    assert figures["voicegate_turns"] == [{"labels": {"outcome": "words"}, "value": 2.0}]
    (reply,) = figures["voicegate_endpoint_to_reply_seconds"]
    assert (reply["labels"], reply["count"], reply["sum"]) == ({}, 2.0, pytest.approx(0.262))
    bounds = [bound for bound, _ in reply["buckets"]]
    assert bounds[-1] is None and bounds[:-1] == sorted(bounds[:-1])
    assert dict(reply["buckets"][:-1])[0.2] == 1.0 and reply["buckets"][-1][1] == 2.0


def record(**fields: Any) -> str:
    known = {
        "bot": "bill",
        "bot_version": "1",
        "models": {"asr": "bundled", "nlu": "new"},
        "ended_by": "bot",
        "disposition": "promise_to_pay",
        "node": "goodbye",
        "turns": 4,
        "duration_s": 50.0,
    }
    return json.dumps({**known, **fields})


@pytest.mark.redis
async def test_outcomes_are_counted_by_bot_and_model_from_a_time_on(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    stream = f"test:outcomes:{next(_streams)}"
    now = int(time.time())
    await client.xadd(stream, {"record": record(bot="older")}, id=f"{(now - 7200) * 1000}-0")
    pipeline = client.pipeline()
    for number in range(1100):  # more than one piece
        pipeline.xadd(stream, {"record": record()}, id=f"{now * 1000}-{number}")
    await pipeline.execute()
    lost = record(ended_by="caller", disposition=None, node="ask_date", duration_s=None, models={"asr": "bundled"})
    await client.xadd(stream, {"record": lost}, id=f"{(now + 1) * 1000}-0")
    (most, least), complete = await count_outcomes(client, stream, since=now - 3600)
    assert complete and (most.bot, most.model, most.calls, most.turns, most.duration_s) == (
        "bill",
        "new",
        1100,
        4400,
        55e3,
    )
    assert most.dispositions == {"promise_to_pay": 1100} and not most.last_nodes
    assert (least.model, least.calls, least.timed) == ("", 1, 0)
    assert (least.ended_by, least.dispositions, least.last_nodes) == ({"caller": 1}, {"none": 1}, {"ask_date": 1})
    await client.aclose()


@pytest.mark.redis
async def test_the_routes_answer(redis_url: str, tmp_path: Path) -> None:
    async with api(redis_url, write_bot(tmp_path / "tester")) as at:
        figures = (await at.client.get("/v1/figures")).json()
        assert figures["budgets_ms"]["endpoint_to_reply_ms"] == 200.0 and isinstance(figures["figures"], dict)
        client = redis.Redis.from_url(redis_url, decode_responses=True)
        await client.xadd("vg:{results}:stream", {"record": record(bot="of-the-routes")})
        await client.aclose()
        outcomes = (await at.client.get("/v1/outcomes?hours=1")).json()
        (mine,) = [one for one in outcomes["outcomes"] if one["bot"] == "of-the-routes"]
        assert outcomes["complete"] and mine["dispositions"] == {"promise_to_pay": 1}
        assert (await at.client.get("/v1/outcomes?hours=0")).status_code == 422
