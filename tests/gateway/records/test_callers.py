"""A caller who was cut off calls again with another call id: over the WebSocket, with a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import redis.asyncio as redis

from dialogue.connection import connect
from dialogue.store import RedisStore, state_keys
from gateway.records.callers import Callers, caller_keys, identity
from tests.gateway.harness import Peer, Rig, rig

pytestmark = pytest.mark.redis

FLOW = """
start: first
no_input: {after_ms: never}
nodes:
  first: {ask: First, keys: {"1": second}}
  second: {ask: Second, keys: {"1": bye}}
  bye: {say: Good bye, hang_up: done}
"""
TTL_S = 3600
_numbers = count(1)


@asynccontextmanager
async def line(folder: Path, redis_url: str, *, come_back_s: float = 900) -> AsyncIterator[tuple[Rig, redis.Redis]]:
    """A worker that knows its callers."""
    client, store = connect(redis_url, timeout_s=5), RedisStore.connect(redis_url, ttl_s=TTL_S)
    callers = Callers(client, come_back_s=come_back_s, ttl_s=TTL_S, worker_key="vg:worker:test")
    await client.set("vg:worker:test", "{}", ex=60)
    try:
        async with rig(
            folder, store=store, flow=FLOW, callers=callers, environ={"VOICEGATE_TURNS_FILLER_MS": "0"}
        ) as running:
            yield running, client
    finally:
        await store.close()
        await client.aclose()


async def call(running: Rig, call_id: str, caller: str) -> Peer:
    peer = await running.peer(start={"call_id": call_id, "caller": caller})
    await peer.event("prompt", timeout_s=20)
    return peer


def heard(peer: Peer) -> str:
    """The last prompt so far."""
    return str([event["text"] for event in peer.events if event["type"] == "prompt"][-1])


async def press(peer: Peer, key: str, prompts: int) -> str:
    """Press a key; the text of the prompt that is then the last of so many."""
    await peer.say(type="dtmf", digit=key)
    return str((await peer.event("prompt", count=prompts, timeout_s=20))["text"])


def new_number() -> str:
    return f"+1 555 {next(_numbers):04d}"


async def test_a_caller_who_lost_the_line_goes_on(tmp_path: Path, redis_url: str) -> None:
    async with line(tmp_path, redis_url) as (running, client):
        number = new_number()
        one = await call(running, f"{number}-a".replace(" ", ""), number)
        assert await press(one, "1", 2) == "Second"
        one.abort()
        await running.no_calls(20)
        two = await call(running, f"{number}-b".replace(" ", ""), number.replace(" ", "-"))
        assert heard(two).startswith("Welcome back.")
        assert next(e for e in two.events if e["type"] == "ready")["resumed"] is False
        assert await press(two, "1", 3) == "Second"
        assert running.metric("voicegate_offers_total") == 1
        assert await press(two, "1", 4) == "Good bye"
        await two.closed(20)
        await running.no_calls(20)
        three = await call(running, f"{number}-c".replace(" ", ""), number)
        assert heard(three) == "First"  # the bot had finished
        who = identity(number, None)
        assert who is not None
        for key in caller_keys(who):
            assert 0 < await client.ttl(key) <= 2 * TTL_S
        assert await client.zcard(caller_keys(who)[1]) == 3
        assert not [key async for key in client.scan_iter("*555*") if "{caller:" in key]  # no number stands in a key


async def test_a_no_begins_from_the_start(tmp_path: Path, redis_url: str) -> None:
    async with line(tmp_path, redis_url) as (running, _):
        number = new_number()
        one = await call(running, "no-a", number)
        await press(one, "1", 2)
        await one.say(type="stop")  # hung up before the bot had finished
        await running.no_calls(20)
        two = await call(running, "no-b", number)
        assert await press(two, "2", 3) == "First"


async def test_what_is_not_offered(tmp_path: Path, redis_url: str) -> None:
    async with line(tmp_path, redis_url) as (running, client):
        number = new_number()
        one = await call(running, "not-a", number)
        await press(one, "1", 2)
        beside = await call(running, "not-b", number)  # the same switchboard, while the first goes on
        assert heard(beside) == "First"
        withheld = await call(running, "not-c", "anonymous")
        await press(withheld, "1", 2)
        withheld.abort()
        again = await call(running, "not-d", "Anonymous")
        assert heard(again) == "First"
        # Nor after too long: the state's time to live says when its last step was.
        late = new_number()
        cut = await call(running, "not-e", late)
        await press(cut, "1", 2)
        for peer in (one, beside, again, cut):
            peer.abort()
        await running.no_calls(20)
        await client.expire(state_keys("not-e")[0], TTL_S - 901)
        back = await call(running, "not-f", late)
        assert heard(back) == "First"


async def test_nothing_is_offered_where_that_is_set(tmp_path: Path, redis_url: str) -> None:
    async with line(tmp_path, redis_url, come_back_s=0) as (running, _):
        number = new_number()
        one = await call(running, "never-a", number)
        await press(one, "1", 2)
        one.abort()
        await running.no_calls(20)
        assert heard(await call(running, "never-b", number)) == "First"


async def test_a_call_whose_worker_died_is_offered(tmp_path: Path, redis_url: str) -> None:
    async with line(tmp_path, redis_url) as (running, client):
        number = new_number()
        one = await call(running, "died-a", number)
        await press(one, "1", 2)
        await client.delete("vg:worker:test")  # as if: the worker notes nothing any more
        two = await call(running, "died-b", number)
        assert heard(two).startswith("Welcome back.")


@pytest.mark.unit
def test_numbers_are_known_by_a_keyed_hash_however_they_are_written() -> None:
    who = identity("+1 (555) 010-99.88", "s" * 32)
    assert who == identity("+15550109988", "s" * 32) and who is not None and len(who) == 32
    assert who != identity("+15550109988", None) != identity("+15550109987", None)
    assert [identity(nobody, None) for nobody in (None, "", "Anonymous", "  ")] == [None] * 4


async def test_a_redis_that_does_not_answer_offers_nothing() -> None:
    client = connect("unix:///nowhere/redis.sock", timeout_s=0.1)
    callers = Callers(client, come_back_s=900, ttl_s=TTL_S, worker_key="w")
    assert await callers.earlier("0" * 32, "c", "b") is None
    await asyncio.gather(callers.seen("0" * 32, "c", "b"), callers.left("0" * 32, "c", "b", finished=True))
    await client.aclose()
