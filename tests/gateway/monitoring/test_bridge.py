"""What leaves a worker: the sinks, and what becomes of events where somebody is too slow or away."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.monitoring import bridge as bridge_module
from gateway.monitoring.bridge import MonitorBridge
from gateway.monitoring.bus import EventBus
from gateway.monitoring.events import PartialHeard, Published, Redact, to_json
from gateway.monitoring.hub import HubError, MonitorHub, Watcher
from gateway.outside.webhooks import Webhooks
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.settings import SettingsError, load
from tests.gateway.operator import operator

pytestmark = pytest.mark.redis

_streams = count(1)


class Bridged:
    """A bus whose events leave by a bridge."""

    def __init__(self, bus: EventBus, registry: CollectorRegistry) -> None:
        self.bus = bus
        self._registry = registry
        self._seq = count(1)

    def says(self, text: str) -> None:
        seq = next(self._seq)
        self.bus.publish(Published(PartialHeard(round_id=1, text=text), "c", seq, 20 * seq, 1.0))

    def dropped(self, kind: str) -> float:
        return self._registry.get_sample_value("voicegate_dropped_total", {"kind": kind}) or 0.0


@asynccontextmanager
async def bridged(redis_url: str, **flags: Any) -> AsyncIterator[Bridged]:
    settings, registry, bus = load(environ={}, flags=flags), CollectorRegistry(), EventBus()
    metrics = Metrics(registry)
    webhooks = Webhooks(settings.webhooks, metrics)
    bridge = MonitorBridge(redis_url, bus, lambda: [], settings.monitoring, metrics, webhooks, name="w")
    async with bridge:
        yield Bridged(bus, registry)
    await webhooks.aclose()


async def some_events(watcher: Watcher) -> list[str]:
    """What waits of events; the rest is for those who keep a list of calls."""
    while True:
        if lines := [one for one in await watcher.some() if isinstance(one, str)]:
            return lines


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not wanted():
            await asyncio.sleep(0.01)


async def test_a_redis_stream_gets_every_event_redacted_though_nobody_watches(redis_url: str) -> None:
    stream = f"test:events:{next(_streams)}"
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    async with bridged(redis_url, **{"monitoring.stream": stream, "monitoring.redact_amounts": True}) as at:
        await until(lambda: at.bus.listening)
        at.says("call 555 123 4567")
        at.says("I owe $84.50")
        async with asyncio.timeout(15):
            while await client.xlen(stream) < 2:
                await asyncio.sleep(0.01)
        told = [json.loads(fields["event"]) for _, fields in await client.xrange(stream)]
        assert [(one["seq"], one["text"]) for one in told] == [(1, "call [phone]"), (2, "I owe [amount]")]
    await client.aclose()


async def test_a_webhook_gets_batches_with_a_key_of_their_own(redis_url: str) -> None:
    with operator() as crm:
        flags = {"monitoring.webhook": crm.url, "webhooks.hosts": (crm.host,)}
        async with bridged(redis_url, **flags) as at:
            await until(lambda: at.bus.listening)
            for number in range(3):
                at.says(f"word {number}")
            await until(lambda: bool(crm.posted))
            at.says("later, 555 123 4567")
            await until(lambda: len(crm.posted) > 1)
        first, second = crm.posted[:2]
        assert [event["text"] for event in first.body["events"]] == ["word 0", "word 1", "word 2"]
        assert [event["text"] for event in second.body["events"]] == ["later, [phone]"]
        assert (first.body["worker"], first.body["batch"], second.body["batch"]) == ("w", 1, 2)
        keys = [posted.headers["Idempotency-Key"] for posted in (first, second)]
        assert len(set(keys)) == 2 and all(key.startswith("w/") for key in keys)


async def test_a_receiver_that_refuses_costs_its_batch_and_nothing_else(redis_url: str) -> None:
    flags = {"monitoring.webhook": "http://127.0.0.1:1/", "webhooks.hosts": ("127.0.0.1",)}
    async with bridged(redis_url, **flags) as at:
        await until(lambda: at.bus.listening)
        at.says("one")
        at.says("two")
        await until(lambda: at.dropped("monitor_posts") == 2)


async def test_a_batch_that_cannot_be_posted_at_all_costs_itself_alone(redis_url: str) -> None:
    host = f"{'x' * 70}.example"  # longer than a label of a name may be: a ValueError of Python's
    flags = {"monitoring.webhook": f"https://{host}/", "webhooks.hosts": (host,)}
    async with bridged(redis_url, **flags) as at:
        await until(lambda: at.bus.listening)
        at.says("one")
        await until(lambda: at.dropped("monitor_posts") == 1)
        at.says("two")
        await until(lambda: at.dropped("monitor_posts") == 2)


async def test_a_redis_that_is_away_costs_events_which_are_counted() -> None:
    async with bridged("unix:///nowhere/redis.sock", **{"monitoring.stream": "s"}) as at:
        await until(lambda: at.bus.listening)
        at.says("one")
        await until(lambda: at.dropped("monitor_events") == 1)


async def test_events_that_waited_for_an_outage_leave_the_loop_to_the_calls(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Published] = []

    def making(event: Published, redact: Redact | None) -> str:
        made.append(event)
        return to_json(event, redact)

    monkeypatch.setattr(bridge_module, "to_json", making)
    async with bridged(redis_url, **{"monitoring.stream": f"test:events:{next(_streams)}"}) as at:
        await until(lambda: at.bus.listening)
        for _ in range(1000):
            at.says("word")
        seen = [0]
        async with asyncio.timeout(15):
            while len(made) < 1000:
                await asyncio.sleep(0)  # as a call's frames come
                seen.append(len(made))
        assert max(after - before for before, after in pairwise(seen)) < 100


async def test_a_watcher_that_does_not_read_loses_the_oldest_and_is_told_how_many(redis_url: str) -> None:
    async with MonitorHub(redis_url) as hub, bridged(redis_url) as at:
        async with asyncio.timeout(15):
            while not (await hub.calls()).workers:
                await asyncio.sleep(0.01)
        with hub.watching(raw=False) as slow, hub.watching(raw=False) as other:
            await hub.begin()
            assert at.bus.listening
            for _ in range(6):
                for _ in range(1000):
                    at.says("word")
                seen = 0
                async with asyncio.timeout(15):
                    while seen < 1000:
                        seen += len(await some_events(other))
            lines = await some_events(slow)
            assert (len(lines), slow.take_dropped(), other.take_dropped()) == (5000, 1000, 0)
            assert json.loads(lines[-1])["seq"] == 6000


async def test_what_waits_when_the_worker_ends_is_sent(redis_url: str) -> None:
    stream = f"test:events:{next(_streams)}"
    async with bridged(redis_url, **{"monitoring.stream": stream}) as at:
        await until(lambda: at.bus.listening)
        at.says("the last word")
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    assert await client.xlen(stream) == 1
    await client.aclose()


async def test_watching_goes_on_when_redis_is_back() -> None:
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        server = EmbeddedRedis(None, Path(folder))
        try:
            async with MonitorHub(server.url) as hub, bridged(server.url) as at:
                with hub.watching(raw=False) as watcher:
                    async with asyncio.timeout(15):
                        while not (await hub.calls()).workers:
                            await asyncio.sleep(0.01)
                    await hub.begin()
                    at.says("before")
                    async with asyncio.timeout(15):
                        assert "before" in (await some_events(watcher))[0]
                    server.stop()
                    with pytest.raises(HubError, match="Redis does not answer"):
                        await hub.calls()
                    server = EmbeddedRedis(None, Path(folder))
                    async with asyncio.timeout(30):
                        while True:
                            at.says("behind")
                            with suppress(TimeoutError):
                                async with asyncio.timeout(0.3):
                                    assert "behind" in (await some_events(watcher))[0]
                                    break
        finally:
            server.stop()


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"monitoring\.webhook: must begin with https://"):
        load(environ={"VOICEGATE_MONITORING_WEBHOOK": "crm.example/events"})
