"""After calls have come and gone in every way, nothing of them is left: objects, tasks, threads, keys without end."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import redis.asyncio as redis

from audio.inbound import InboundChain
from dialogue.loop import DialogueLoop
from dialogue.store import RedisStore
from gateway.session import CallSession
from gateway.speaker import Speaker
from gateway.websocket import Connection
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
