"""The dialogue over a cluster of three: every step one script on one slot; a node that dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis.asyncio as redis

from dialogue.connection import connect, is_cluster, one_node
from dialogue.loop import DialogueLoop
from dialogue.store import RedisStore, state_keys
from dialogue.write_back import WriteBackStore
from gateway.http.answer_store import AnswerStore
from gateway.processes.presence import PresentWorkers, presence_key, present_workers
from gateway.records.call_archive import CallArchive
from gateway.records.callers import Callers, identity
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, said
from tests.dialogue.valkey import Cluster, cluster

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

YES = said("affirm", "yes speaking")
ACCOUNT = said("inform", "[four four one seven](digits)")
FRIDAY = said("promise_to_pay", "i will pay on [friday](date)")
CALLS = 24


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


def loop_on(store: RedisStore | WriteBackStore, call_id: str) -> DialogueLoop:
    return DialogueLoop(BILL_REMINDER, store, call_id, today=lambda: TODAY)


async def nodes_with_keys(three: Cluster) -> int:
    sizes = []
    for port in three.ports:
        client = redis.Redis(port=port)
        sizes.append(await client.dbsize())
        await client.aclose()
    return sum(size > 0 for size in sizes)


async def back(kept: WriteBackStore) -> None:
    """Until all is written."""
    async with asyncio.timeout(60):
        while kept.away:
            await asyncio.sleep(0.05)


async def test_calls_spread_over_the_nodes_and_each_goes_on(three: Cluster) -> None:
    store = RedisStore.connect(three.url)
    for n in range(CALLS):
        loop = loop_on(store, f"spread-{n}")
        await loop.open()
        await loop.handle(YES)
        again = loop_on(store, f"spread-{n}")
        assert (await again.open()).resumed
        first = await again.handle(ACCOUNT)
        assert (await again.handle(ACCOUNT, round_id=2)).actions == first.actions
        assert again.state.slots["account_check"].value == "4417"
    assert await nodes_with_keys(three) == 3
    await store.close()


async def test_all_else_that_is_kept_of_calls(three: Cluster) -> None:
    client = connect(three.url, timeout_s=5)
    store = RedisStore(client)
    callers = Callers(client, come_back_s=900, ttl_s=3600, worker_key=presence_key("here:1", "gone"))
    answers = AnswerStore(client, ttl_s=60)
    archive = CallArchive(client, records="vg:{results}:stream")
    await client.set(presence_key("here:1", "one"), '{"calls": 3, "draining": false}', ex=60)
    await client.set(presence_key("here:1", "two"), '{"calls": 4, "draining": true}', ex=60)
    assert await present_workers(client, "here:1") == PresentWorkers(serving=1, draining=1, calls=7)
    who = identity("555 1", None)
    assert who is not None
    for n in range(6):
        loop = loop_on(store, f"kept-{n}")
        await loop.open()
        await loop.handle(YES)
        await callers.seen(who, f"kept-{n}", "bill-reminder")
        assert await answers.keep(f"kept-{n}", "intent:1", "{}") == "{}"
        assert await answers.find(f"kept-{n}", "intent:1", "intent:2") == ["{}", None]
    earlier = await callers.earlier(who, "kept-new", "bill-reminder")
    assert earlier is not None and earlier.call_id == "kept-5"
    assert [call.http_answers for call in await archive.find(["kept-3", "kept-4"])] == [{"intent:1": {}}] * 2
    done = await archive.forget(await archive.calls_of(who), who=who)
    assert done.calls == 6 and all(call.empty for call in await archive.find(["kept-3"]))
    await client.aclose()


async def test_a_node_that_dies_and_comes_back_loses_nothing(three: Cluster) -> None:
    store = RedisStore.connect(three.url, timeout_s=5)
    async with WriteBackStore(store, grace_s=20.0) as kept:
        loops = [loop_on(kept, f"node-{n}") for n in range(CALLS)]
        await asyncio.gather(*(loop.open() for loop in loops))
        await asyncio.gather(*(loop.handle(YES) for loop in loops))
        three.kill(1)
        await asyncio.gather(*(loop.handle(ACCOUNT) for loop in loops))
        await asyncio.gather(*(loop.handle(FRIDAY) for loop in loops))
        assert kept.away
        await asyncio.to_thread(three.start, 1)
        await back(kept)
    other = RedisStore.connect(three.url)
    for n in range(CALLS):
        loop = loop_on(other, f"node-{n}")
        await loop.open(exclusive=False)
        assert (loop.state.turns, set(loop.state.slots) >= {"account_check", "promise_date"}) == (3, True)
    await other.close()
    await store.close()


async def test_a_cluster_of_one_primary_is_known_by_its_run() -> None:
    with cluster(1) as single:
        store = RedisStore.connect(single.url)
        run = await store.server_id()
        single.kill(0)
        await asyncio.to_thread(single.start, 0)
        assert run and await store.server_id() != run
        await store.close()


@pytest.mark.unit
def test_addresses() -> None:
    assert is_cluster("rediss+cluster://h:1") and not is_cluster("redis://h:1")
    assert one_node("rediss+cluster://u:p@h:1/0") == "rediss://u:p@h:1/0"
    assert one_node("unix:///a/redis.sock") == "unix:///a/redis.sock"
    assert {key.partition("}")[0] for key in state_keys("a")} == {"vg:{a"}
