"""One suite for both stores: `MemoryStore` must be the scripts' twin. Redis on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from itertools import count

import pytest
import redis.asyncio as redis

from dialogue.store import (
    ANSWERS_KEPT,
    Claim,
    Conflict,
    FencedError,
    RedisStore,
    Repeated,
    RoundError,
    StepWrite,
    StoreError,
    Written,
    state_keys,
)
from tests.dialogue.conftest import Opener

pytestmark = pytest.mark.redis


_owners = count(1)


def new_owner() -> str:
    """Whoever takes a call over."""
    return f"owner-{next(_owners)}"


def write(epoch: int, version: int, round_id: int | None, body: str = "", key: str = "") -> StepWrite:
    """A step whose body tells where it comes from."""
    body = body or f"e{epoch} v{version} r{round_id}"
    return StepWrite(
        epoch=epoch,
        version=version,
        round_id=round_id,
        key=key or f"r{round_id}",
        body=body,
        answer=f"answer of {body}",
    )


async def test_a_call_begins_empty(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        assert await store.read(call_id) is None
        assert await store.claim(call_id, owner=new_owner()) == Claim(1, 0, None)
        assert await store.read(call_id) is None


async def test_a_step_is_read_back(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        assert await store.write(call_id, write(1, 0, 1, "first ü")) == Written(1)
        assert await store.read(call_id) == "first ü"
        assert await store.claim(call_id, owner=new_owner()) == Claim(2, 1, "first ü", 1)


async def test_the_same_round_answers_the_same_and_changes_nothing(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        await store.write(call_id, write(1, 0, 1, "one"))
        await store.write(call_id, write(1, 1, 2, "two"))
        for version in (0, 1, 2):
            again = await store.write(call_id, write(1, version, 1, "another"))
            assert again == Repeated(2, "two", "answer of one")
        assert await store.read(call_id) == "two"


async def test_a_round_sent_by_many_at_once_is_done_once(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        results = await asyncio.gather(*(store.write(call_id, write(1, 0, 1, f"by {n}")) for n in range(20)))
        assert [type(r) for r in results].count(Written) == 1
        repeated = {r for r in results if isinstance(r, Repeated)}
        assert len(repeated) == 1
        assert repeated.pop().body == await store.read(call_id)


async def test_a_later_owner_fences_the_earlier(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        await store.write(call_id, write(1, 0, 1, "one"))
        await store.claim(call_id, owner=new_owner())
        with pytest.raises(FencedError):
            await store.write(call_id, write(1, 1, 2, "late"))
        assert await store.read(call_id) == "one"
        # It may still learn what was answered before it lost the call.
        assert await store.write(call_id, write(1, 1, 1)) == Repeated(1, "one", "answer of one")
        assert await store.write(call_id, write(2, 1, 2)) == Written(2)


async def test_joining_fences_nobody(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        assert await store.claim(call_id, owner=None) == Claim(0, 0, None)
        await store.claim(call_id, owner=new_owner())
        assert await store.claim(call_id, owner=None) == Claim(1, 0, None)
        assert await store.write(call_id, write(1, 0, 1)) == Written(1)


async def test_a_claim_sent_twice_is_one(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        assert (await store.claim(call_id, owner="a")).epoch == 1
        assert (await store.claim(call_id, owner="a")).epoch == 1
        assert (await store.claim(call_id, owner="b")).epoch == 2
        assert (await store.claim(call_id, owner="a")).epoch == 3  # it had lost the call


async def test_an_owner_forgotten_by_the_store_is_not_mistaken_for_the_writer(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner="a")
        await store.write(call_id, write(2, 0, 1, "of an owner whose claim the store lost"))
        assert (await store.claim(call_id, owner="a")).epoch == 3


async def test_one_epoch_has_one_owner(opened: Opener, call_id: str) -> None:
    """A worker that was cut off gives out epochs from memory, and another may get the same from the store."""
    async with opened() as store:
        await store.claim(call_id, owner="a")
        assert await store.write(call_id, replace(write(1, 0, 1), owner="a")) == Written(1)
        with pytest.raises(FencedError):
            await store.write(call_id, replace(write(1, 1, 2), owner="from memory"))
        assert await store.write(call_id, write(1, 1, 2)) == Written(2)  # one that joined


async def test_a_call_is_reclaimed_only_where_nobody_took_it(redis_url: str, call_id: str) -> None:
    store = RedisStore.connect(redis_url)
    try:
        await store.claim(call_id, owner="a")
        assert (await store.reclaim(call_id, owner="b", epoch=1)).epoch == 2
        assert (await store.reclaim(call_id, owner="b", epoch=1)).epoch == 2  # sent twice, or landed late
        with pytest.raises(FencedError, match="since epoch 1"):
            await store.reclaim(call_id, owner="c", epoch=1)
        assert (await store.claim(call_id, owner=None)).epoch == 2
        assert (await store.reclaim(f"{call_id}-lost", owner="b", epoch=7)).epoch == 8
    finally:
        await store.close()


async def test_an_old_version_gets_the_present_state(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        await store.write(call_id, write(1, 0, 1, "one"))
        assert await store.write(call_id, write(1, 0, 2, "two")) == Conflict(1, "one")
        assert await store.read(call_id) == "one"


async def test_a_writer_ahead_of_a_store_that_lost_data_is_believed(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        assert await store.write(call_id, write(3, 7, 5, "kept in memory")) == Written(8)
        assert await store.claim(call_id, owner=new_owner()) == Claim(4, 8, "kept in memory", 5)


async def test_events_that_are_no_rounds_come_between_them(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        assert await store.write(call_id, write(1, 0, None, key="e1.1")) == Written(1)
        assert await store.write(call_id, write(1, 1, 1)) == Written(2)
        assert await store.write(call_id, write(1, 2, None, key="e1.2")) == Written(3)
        assert isinstance(await store.write(call_id, write(1, 2, None, key="e1.2")), Repeated)
        assert await store.write(call_id, write(1, 3, 2)) == Written(4)


async def test_answers_are_kept_up_to_a_number(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        for n in range(ANSWERS_KEPT + 1):
            await store.write(call_id, write(1, n, n + 1))
        assert isinstance(await store.write(call_id, write(1, 0, 2)), Repeated)
        with pytest.raises(RoundError, match="round 1 is over"):
            await store.write(call_id, write(1, ANSWERS_KEPT + 1, 1))


async def test_rounds_may_leave_gaps_but_not_go_back(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        await store.claim(call_id, owner=new_owner())
        assert await store.write(call_id, write(1, 0, 5)) == Written(1)
        with pytest.raises(RoundError, match="number rounds upwards"):
            await store.write(call_id, write(1, 1, 4))


async def test_calls_are_kept_apart(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        for call in (call_id, call_id + "}x{", call_id + " with space"):
            await store.claim(call, owner=new_owner())
            await store.write(call, write(1, 0, 1, call))
        assert await store.read(call_id) == call_id
        assert await store.read(call_id + "}x{") == call_id + "}x{"


async def test_every_key_expires(redis_url: str, call_id: str) -> None:
    store = RedisStore.connect(redis_url, ttl_s=100)
    client = redis.Redis.from_url(redis_url)
    try:
        await store.claim(call_id, owner=new_owner())
        assert 0 < await client.ttl(state_keys(call_id)[0]) <= 100  # a call that never gets beyond its claim
        await store.write(call_id, write(1, 0, 1))
        keys = [key async for key in client.scan_iter(f"*{call_id}*")]
        assert {key.decode() for key in keys} == set(state_keys(call_id))
        for key in keys:
            assert 0 < await client.ttl(key) <= 100
            await client.expire(key, 5)
        await store.write(call_id, write(1, 1, 2))
        assert min([await client.ttl(key) for key in keys]) > 5  # each step gives all keys their full time
    finally:
        await store.close()
        await client.aclose()


def test_a_calls_keys_share_one_hash_tag() -> None:
    assert {key[key.index("{") : key.index("}") + 1] for key in state_keys("abc")} == {"{abc}"}


async def test_two_hundred_calls_at_once_find_connections(redis_url: str) -> None:
    store = RedisStore.connect(redis_url, timeout_s=60.0)  # not about speed: a busy machine opens them in seconds

    async def one(call: str) -> Awaitable[None] | None:
        await store.claim(call, owner=new_owner())
        assert await store.write(call, write(1, 0, 1)) == Written(1)
        return None

    try:
        await asyncio.gather(*(one(f"many-{n}") for n in range(200)))
    finally:
        await store.close()


async def test_no_server_is_a_store_error_that_says_so() -> None:
    store = RedisStore.connect("unix:///nowhere/redis.sock")
    try:
        for attempt in (
            store.ping(),
            store.claim("x", owner=new_owner()),
            store.read("x"),
            store.write("x", write(1, 0, 1)),
        ):
            with pytest.raises(StoreError, match="did not answer"):
                await attempt
    finally:
        await store.close()


async def test_what_a_server_refuses_is_told_in_its_own_words(redis_url: str, call_id: str) -> None:
    store = RedisStore.connect(redis_url)
    client = redis.from_url(redis_url)
    try:
        await client.set(state_keys(call_id)[0], "no hash", ex=60)
        with pytest.raises(StoreError, match="refused a command; Redis says: WRONGTYPE"):
            await store.read(call_id)
    finally:
        await client.aclose()
        await store.close()
