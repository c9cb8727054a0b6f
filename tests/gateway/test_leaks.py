"""After calls have come and gone in every way, nothing of them is left: objects, tasks, threads, keys without end."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from audio.inbound import InboundChain
from dialogue.connection import connect
from dialogue.loop import DialogueLoop
from dialogue.store import RedisStore
from gateway.calls.session import CallSession
from gateway.calls.speaker import Speaker
from gateway.calls.websocket import Connection
from gateway.http.answer_store import AnswerStore
from gateway.metrics import Metrics
from gateway.processes.presence import Presence, presence_key
from gateway.records.callers import Callers
from gateway.records.results import OPEN_KEY, CallRecords, Origin
from gateway.settings import load
from tests.dialogue.valkey import valkey
from tests.gateway.harness import Rig, rig, silence, speech

pytestmark = pytest.mark.redis

KINDS = (CallSession, Connection, Speaker, InboundChain, DialogueLoop)


def living() -> dict[str, int]:
    """How many objects of a call are alive."""
    gc.collect()
    counts = {kind.__name__: 0 for kind in KINDS}
    for thing in gc.get_objects():
        if type(thing) in KINDS:  # isinstance would touch lazy objects that warn when looked at
            counts[type(thing).__name__] += 1
    return counts


async def come_and_go(running: Rig, number: int) -> None:
    """One short call that ends in one of six ways."""
    way = number % 6
    peer = await running.peer(start={"call_id": f"leak-{number}"})
    await peer.event("ready")
    if way == 0:
        await peer.say(type="stop")
    elif way == 1:
        peer.abort()
    elif way == 2:
        await peer.ws.close()
    elif way == 3:
        await peer.send(silence(7000))  # a flood
    elif way == 4:
        await peer.send(np.concatenate([speech(), silence(1000)]))
        await peer.event("transcript")
        peer.abort()
    else:
        await peer.send(speech())
        await peer.event("speech_started")
        peer.abort()
    await peer.closed()
    running.peers.remove(peer)


async def test_sixty_calls_leave_nothing_behind(tmp_path: Path, redis_url: str) -> None:
    store = RedisStore.connect(redis_url, ttl_s=120)
    async with rig(tmp_path, hear="more", store=store) as running:
        await come_and_go(running, 4)  # whatever is made once is made now
        await running.no_calls()
        before, threads, tasks = living(), threading.active_count(), len(asyncio.all_tasks())
        for first in range(0, 60, 12):
            await asyncio.gather(*(come_and_go(running, first + n) for n in range(12)))
        await running.no_calls()
        async with asyncio.timeout(20):
            while living() != before or len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.05)
        assert threading.active_count() <= threads
        assert running.metric("voicegate_calls", protocol="native") == 0
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    keys = [key async for key in client.scan_iter(match="vg:{leak-*")]
    assert len(keys) >= 60
    for key in keys:
        assert 0 < await client.ttl(key) <= 120, key
    await client.aclose()
    await store.close()


async def known_as_open(client: redis.Redis, call_id: str) -> None:
    """Until a call that dies now gets a record."""
    async with asyncio.timeout(20):
        while call_id not in {Origin.of_member(member).call_id for member in await client.zrange(OPEN_KEY, 0, -1)}:
            await asyncio.sleep(0.01)


async def test_every_key_of_every_kind_expires_or_is_bounded(tmp_path: Path) -> None:
    """Calls with callers, records, answers over HTTP, a worker's presence: nothing of them stays for ever."""
    with valkey(lasting=False) as server:
        client, store = connect(server.url, timeout_s=5), RedisStore.connect(server.url, ttl_s=120)
        settings, metrics = load(environ={}), Metrics(CollectorRegistry())
        records = CallRecords(server.url, settings.results, metrics, ttl_s=120)
        callers = Callers(client, come_back_s=60, ttl_s=120, worker_key=presence_key("here", "1"))
        answers = AnswerStore(client, ttl_s=120)
        async with (
            Presence(server.url, gateway="here", name="1", calls=lambda: 0),
            rig(tmp_path, store=store, records=records, callers=callers) as running,
        ):
            for n in range(24):
                peer = await running.peer(start={"call_id": f"kept-{n}", "caller": f"+1555{n % 5}"})
                await peer.event("ready", timeout_s=10)
                await answers.keep(f"kept-{n}", "intent:1", "{}")
                if n % 2:
                    await peer.say(type="stop")
                    await peer.closed(10)
                else:
                    await known_as_open(client, f"kept-{n}")
                    peer.abort()
            await running.no_calls(20)
            bounded = {settings.results.stream, OPEN_KEY}
            kinds = set()
            async for key in client.scan_iter():
                kinds.add(re.sub(r"\{[^}]*\}|\d+", "", key))
                assert key in bounded or 0 < await client.ttl(key) <= 240, key
            assert len(kinds) >= 8, kinds
            # Who lost the line may come back until the state expires; then a sweep notes that they did not.
            async for key in client.scan_iter("vg:{kept-*"):
                await client.unlink(key)
            for now in (0.0, 31.0):  # a call is lost that nobody has put off in between
                await records.sweep(time.time() + 1000, now)
            assert not await client.exists(OPEN_KEY)
            assert await client.xlen(settings.results.stream) == 24
        await records.aclose()
        await store.close()
        await client.aclose()
