"""Records are posted until they are taken, on a real Valkey, by whichever worker lives, and whatever its clock says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from dialogue.state import DialogueState
from gateway.metrics import Metrics
from gateway.outside.webhooks import Webhooks
from gateway.records.posting import RecordPosts
from gateway.records.results import CallRecords, Origin
from gateway.settings import load
from tests.dialogue.valkey import valkey
from tests.gateway.operator import Operator, Posted, operator

pytestmark = pytest.mark.redis

_GROUP = "webhook"
_streams = count(1)


@pytest.fixture
def crm() -> Iterator[Operator]:
    with operator() as made:
        yield made


class Desk:
    """What makes records, workers that post them, and what is in the stream."""

    def __init__(
        self,
        url: str,
        stream: str,
        records: CallRecords,
        worker: Callable[[], RecordPosts],
        registry: CollectorRegistry,
    ) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.stream, self.records, self.worker, self._registry = stream, records, worker, registry

    def counted(self, outcome: str) -> float:
        return self._registry.get_sample_value("voicegate_records_total", {"outcome": outcome}) or 0.0

    async def tell(self, call_id: str) -> None:
        """A call's record is in the stream."""
        origin = Origin(call_id=call_id, bot="b", bot_version="1", language="en")
        await self.records.ended(origin, DialogueState(ended_by="bot"))


@asynccontextmanager
async def desk(redis_url: str, crm: Operator, *, workers: int = 1, **flags: Any) -> AsyncIterator[Any]:
    """A desk and so many workers that do not post by themselves."""
    stream = f"test:{{results}}:posted:{next(_streams)}"
    flags |= {"results.stream": stream, "webhooks.hosts": (crm.host,), "results.webhook": crm.url}
    settings, registry = load(environ={}, flags=flags), CollectorRegistry()
    metrics = Metrics(registry)
    async with AsyncExitStack() as stack:
        webhooks = Webhooks(settings.webhooks, metrics)
        stack.push_async_callback(webhooks.aclose)
        records = CallRecords(redis_url, settings.results, metrics, ttl_s=3600)
        stack.push_async_callback(records.aclose)
        worker = partial(RecordPosts, redis_url, settings.results, metrics, webhooks)
        made = Desk(redis_url, stream, records, worker, registry)
        stack.push_async_callback(made.client.aclose)
        posting = [worker() for _ in range(workers)]
        for one in posting:
            stack.push_async_callback(one.aclose)
        await posting[0].join_group()
        yield made, *posting


def refuses_first(crm: Operator, times: int = 1) -> None:
    def answer(posted: Posted) -> tuple[int, bytes]:
        return (404, b"") if len(crm.posted) <= times else (200, b"")

    crm.answer = answer


async def test_records_are_posted_under_the_calls_key(redis_url: str, crm: Operator) -> None:
    async with desk(redis_url, crm) as (at, worker):
        await at.tell("posted")
        assert await worker.post_some(crm.url, 0.0, block_ms=10) == 1
        assert await worker.post_some(crm.url, 100.0, block_ms=10) == 0
        (posted,) = crm.posted
        assert posted.headers["Idempotency-Key"] == "posted" and posted.body["call_id"] == "posted"
        assert at.counted("posted") == 1


async def test_what_is_not_taken_is_posted_again_by_whoever_lives(redis_url: str, crm: Operator) -> None:
    refuses_first(crm)
    async with desk(redis_url, crm, workers=2) as (at, first, second):
        await at.tell("posted-again")
        assert await first.post_some(crm.url, 0.0, block_ms=10) == 1
        assert [await second.post_some(crm.url, now, block_ms=10) for now in (0.0, 59.0, 61.0, 500.0)] == [0, 0, 1, 0]
        assert [posted.body["call_id"] for posted in crm.posted] == ["posted-again"] * 2
        assert (at.counted("failed"), at.counted("posted")) == (1, 1)


async def test_a_clock_that_was_set_back_puts_no_try_off(redis_url: str, crm: Operator) -> None:
    """To the server the entry was read two hours from now: its idle time stands at nothing until then."""
    refuses_first(crm)
    async with desk(redis_url, crm, workers=2) as (at, first, second):
        await at.tell("clock-back")
        await first.post_some(crm.url, 0.0, block_ms=10)
        (entry,) = await at.client.xpending_range(at.stream, _GROUP, "-", "+", 1)
        read_at_ms = round((time.time() + 7200) * 1000)
        await at.client.execute_command(
            *("XCLAIM", at.stream, _GROUP, entry["consumer"], 0, entry["message_id"]),
            *("TIME", read_at_ms, "RETRYCOUNT", entry["times_delivered"]),
        )
        (entry,) = await at.client.xpending_range(at.stream, _GROUP, "-", "+", 1)
        assert entry["time_since_delivered"] < 1000
        assert [await second.post_some(crm.url, now, block_ms=10) for now in (0.0, 61.0)] == [0, 1]
        assert at.counted("posted") == 1


async def test_two_workers_that_see_the_same_take_over_once(redis_url: str, crm: Operator) -> None:
    refuses_first(crm)
    async with desk(redis_url, crm, workers=3) as (at, first, *others):
        await at.tell("taken-once")
        await first.post_some(crm.url, 0.0, block_ms=10)
        for now, seen in ((0.0, 0), (61.0, 1)):
            assert sum(await asyncio.gather(*(one.post_some(crm.url, now, block_ms=10) for one in others))) == seen
        assert len(crm.posted) == 2


async def test_a_record_that_nobody_takes_is_given_up_but_not_at_the_first_refusal(
    redis_url: str, crm: Operator
) -> None:
    """A clock set a day ahead makes every record a day old."""
    crm.answer = lambda posted: (404, b"")
    async with desk(redis_url, crm, **{"results.post_for_s": 100.0}) as (at, worker):
        await at.client.xadd(at.stream, {"call_id": "old", "caller": "", "record": "{}"}, id="1-1")
        await at.client.xgroup_setid(at.stream, _GROUP, "0")
        for now, failed in ((0.0, 1), (1.0, 1), (61.0, 2), (62.0, 2)):
            await worker.post_some(crm.url, now, block_ms=10)
            assert (at.counted("failed"), at.counted("given_up")) == (failed, 0)
        await worker.post_some(crm.url, 123.0, block_ms=10)
        assert (at.counted("failed"), at.counted("given_up")) == (2, 1)
        assert await worker.post_some(crm.url, 500.0, block_ms=10) == 0


async def test_a_server_that_hangs_while_it_is_read_is_given_up(crm: Operator) -> None:
    with valkey() as server:
        async with desk(server.url, crm) as (at, worker):
            reading = asyncio.create_task(worker.post_some(crm.url, 0.0, block_ms=2000))
            while (await at.client.info("clients"))["blocked_clients"] == 0:
                await asyncio.sleep(0.01)
            server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await asyncio.shield(reading)
            assert reading.done()
            server.go_on()


async def test_running_it_posts_what_comes(redis_url: str, crm: Operator) -> None:
    async with desk(redis_url, crm) as (at, _):
        async with at.worker(), asyncio.timeout(20):
            await at.tell("posted-running")
            while not crm.posted:
                await asyncio.sleep(0.01)
        assert crm.posted[0].body["call_id"] == "posted-running"
