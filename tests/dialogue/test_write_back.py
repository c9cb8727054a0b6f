"""Calls go on while the store is away: over one that can be cut off, and over a real Valkey stopped and killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dialogue.codec import decode_state
from dialogue.loop import DialogueLoop
from dialogue.store import (
    Claim,
    FencedError,
    RedisStore,
    StepWrite,
    StoreAwayError,
    StoreError,
    WriteResult,
)
from dialogue.turns import CallerSilent
from dialogue.write_back import KeptStep, WriteBackStore
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, said, spoken
from tests.dialogue.valkey import Valkey, valkey

pytestmark = pytest.mark.redis

YES = said("affirm", "yes speaking")
ACCOUNT = said("inform", "[four four one seven](digits)")
FRIDAY = said("promise_to_pay", "i will pay on [friday](date)")


class CutStore(RedisStore):
    """Redis behind a line that can be cut: `before` the server, or `after` it, so that the answer alone is lost."""

    cut = ""
    faults = 0
    """How many of the next looks at the server fail in a way nobody thought of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slow = asyncio.Event()
        """A write waits until it is `fast` again."""
        self.fast = asyncio.Event()
        self.fast.set()

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        self._pass("before")
        claim = await super().claim(call_id, owner=owner)
        self._pass("after")
        return claim

    async def reclaim(self, call_id: str, *, owner: str, epoch: int) -> Claim:
        self._pass("before")
        return await super().reclaim(call_id, owner=owner, epoch=epoch)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        if not self.fast.is_set():
            self.slow.set()
            await self.fast.wait()
        self._pass("before")
        result = await super().write(call_id, step)
        self._pass("after")
        return result

    async def server_id(self) -> str:
        if self.cut:
            raise StoreError("cut off")
        if self.faults:
            self.faults -= 1
            raise ValueError("no number")
        return await super().server_id()

    def _pass(self, where: str) -> None:
        if self.cut == where:
            raise StoreError("cut off")


class Worker:
    """What a worker has of stores, and what it was told of them."""

    def __init__(self, lasting: RedisStore, *, keep_s: float, grace_s: float) -> None:
        self.steps: Counter[KeptStep] = Counter()
        self.told: list[bool] = []
        self.store = WriteBackStore(
            lasting,
            keep_s=keep_s,
            grace_s=grace_s,
            on_away=self.told.append,
            on_step=lambda outcome: self.steps.update([outcome]),
        )

    def loop(self, call_id: str) -> DialogueLoop:
        return DialogueLoop(BILL_REMINDER, self.store, call_id, today=lambda: TODAY, clock=lambda: 1.75e9)

    async def back(self) -> None:
        """Until the store is there again and all is written."""
        async with asyncio.timeout(20):
            while self.store.away:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def worker(lasting: RedisStore, *, keep_s: float = 60.0, grace_s: float = 20.0) -> AsyncIterator[Worker]:
    made = Worker(lasting, keep_s=keep_s, grace_s=grace_s)
    try:
        async with made.store:
            yield made
    finally:
        await lasting.close()


@asynccontextmanager
async def reader(url: str) -> AsyncIterator[RedisStore]:
    """Another process's look at the store."""
    store = RedisStore.connect(url)
    try:
        yield store
    finally:
        await store.close()


async def state_of(url: str, call_id: str) -> tuple[int, int, dict[str, str]]:
    """Turns, last round and slots as another process finds them, joining the call."""
    async with reader(url) as store:
        loop = DialogueLoop(BILL_REMINDER, store, call_id)
        await loop.open(exclusive=False)
        state = loop.state
        return state.turns, state.round_id, {name: slot.value for name, slot in state.slots.items()}


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_steps_taken_while_away_are_written_once(redis_url: str, call_id: str, cut: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at:
        loop = at.loop(call_id)
        await loop.open()
        lasting.cut = cut
        assert [(await loop.handle(event)).round_id for event in (YES, ACCOUNT, FRIDAY)] == [1, 2, 3]
        assert at.store.away and await at.store.read(call_id) is not None
        lasting.cut = ""
        await at.back()
        assert at.told == [True, False]
        assert at.steps[KeptStep.KEPT] == 3 and at.steps[KeptStep.LOST] == 0
        turns, last_round, slots = await state_of(redis_url, call_id)
        assert (turns, last_round, slots["account_check"]) == (3, 3, "4417")
        assert (await loop.handle(YES)).round_id == 4  # and goes on over the store
        assert (await state_of(redis_url, call_id))[0] == 4


async def test_the_watch_outlives_a_fault_of_its_own(
    redis_url: str, call_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at:
        loop = at.loop(call_id)
        await loop.open()
        lasting.cut = "before"
        await loop.handle(YES)
        assert at.store.away
        lasting.faults = 1
        lasting.cut = ""
        async with asyncio.timeout(20):
            while lasting.faults:  # a look that was under way as the line was mended may have found the store
                await asyncio.sleep(0.01)
        await at.back()
    assert (await state_of(redis_url, call_id))[1] == 1
    assert "the watch over the store failed" in caplog.text


async def test_a_reconnect_goes_on_from_memory_and_keeps_the_call(redis_url: str, call_id: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at:
        first = at.loop(call_id)
        await first.open()
        await first.handle(YES)
        lasting.cut = "after"  # so the claim below lands, and nobody hears of it
        again, once_more = at.loop(call_id), at.loop(call_id)
        resumed = await again.open()
        assert resumed.resumed and "last four digits" in spoken(resumed.actions)
        await again.handle(ACCOUNT)
        assert (await once_more.open()).resumed
        with pytest.raises(FencedError):
            await again.handle(FRIDAY)
        await once_more.handle(FRIDAY)
        lasting.cut = ""
        await at.back()
        turns, _, slots = await state_of(redis_url, call_id)
        assert turns == 3 and {"account_check", "promise_date"} <= slots.keys()
        await once_more.handle(YES)
        with pytest.raises(FencedError):
            await first.handle(CallerSilent())


async def test_a_call_taken_over_elsewhere_meanwhile_is_lost_here(redis_url: str, call_id: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at, worker(RedisStore.connect(redis_url)) as other:
        here, there = at.loop(call_id), other.loop(call_id)
        await here.open()
        await here.handle(YES)
        lasting.cut = "before"
        await here.handle(ACCOUNT)
        waiting = asyncio.create_task(at.store.settle(call_id))
        assert (await there.open()).resumed
        await there.handle(said("deny", "no"))
        lasting.cut = ""
        await at.back()
        with pytest.raises(FencedError):
            await waiting
        with pytest.raises(FencedError):
            await here.handle(FRIDAY)
        assert at.steps[KeptStep.LOST] == 1
        await there.handle(YES)
        assert "account_check" not in (await state_of(redis_url, call_id))[2]


async def test_what_is_done_outside_waits_until_its_step_is_written(redis_url: str, call_id: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at:
        loop = at.loop(call_id)
        await loop.open()
        await at.store.settle(call_id)
        lasting.cut = "before"
        await loop.handle(YES)
        waiting = asyncio.create_task(at.store.settle(call_id))
        await asyncio.sleep(0)
        assert not waiting.done()
        lasting.cut = ""
        await asyncio.wait_for(waiting, 20)
        assert (await state_of(redis_url, call_id))[0] == 1


async def test_a_new_call_waits_a_little_and_one_in_progress_for_its_time(redis_url: str, call_id: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting, keep_s=0.0, grace_s=0.05) as at:
        loop, new = at.loop(call_id), at.loop(f"{call_id}-new")
        await loop.open()
        lasting.cut = "before"
        with pytest.raises(StoreAwayError, match="is Redis running"):
            await new.open()
        with pytest.raises(StoreAwayError, match="for 0 s"):
            await loop.handle(YES)
        lasting.cut = ""
        await at.back()
        assert (await loop.handle(YES)).round_id == 1
        assert not (await new.open()).resumed


@pytest.mark.parametrize("cut", ["", "before", "after"])
async def test_the_end_of_a_call_that_is_let_go_while_it_is_written_is_kept(
    redis_url: str, call_id: str, cut: str
) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting) as at:
        loop = at.loop(call_id)
        await loop.open()
        lasting.fast.clear()
        closing = asyncio.create_task(loop.close("caller"))
        await lasting.slow.wait()
        at.store.release(call_id, loop.owner)  # nobody waits for a slow store at the end of a call
        lasting.cut = cut
        lasting.fast.set()
        await closing
        lasting.cut = ""
        await at.back()
        assert at.steps[KeptStep.LOST] == 0
    async with reader(redis_url) as store:
        body = await store.read(call_id)
        assert body is not None and decode_state(body).ended_by == "caller"


async def test_calls_that_ended_are_written_and_forgotten(redis_url: str, call_id: str) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    async with worker(lasting, grace_s=0.05) as at:
        loop = at.loop(call_id)
        await loop.open()
        lasting.cut = "before"
        await loop.close("caller")
        at.store.release(call_id, "an older owner")
        at.store.release(call_id, loop.owner)
        lasting.cut = ""
        await at.back()
        assert loop.state.ended_by == "caller"
        async with reader(redis_url) as store:
            assert '"ended_by":"caller"' in (await store.read(call_id) or "")
        lasting.cut = "before"
        with pytest.raises(StoreError):  # known here no more
            await at.loop(call_id).open()


async def talk(at: Worker, server: Valkey, how: str) -> list[DialogueLoop]:
    """Eight calls; the server goes as they say their second words, and comes back after their third."""
    loops = [at.loop(f"{how}-{n}") for n in range(8)]
    await asyncio.gather(*(loop.open() for loop in loops))
    await asyncio.gather(*(loop.handle(YES) for loop in loops))
    server.pause() if how == "paused" else server.kill()
    for event in (ACCOUNT, FRIDAY):
        await asyncio.gather(*(loop.handle(event) for loop in loops))
    assert at.store.away
    server.go_on() if how == "paused" else server.start()
    await at.back()
    return loops


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_a_server_that_stops_loses_nothing(how: str) -> None:
    with valkey() as server:
        async with worker(RedisStore.connect(server.url, timeout_s=0.2)) as at:
            loops = await talk(at, server, how)
            for n, loop in enumerate(loops):
                turns, _, slots = await state_of(server.url, f"{how}-{n}")
                assert turns == 3 and slots == {name: slot.value for name, slot in loop.state.slots.items()}
            steps = await asyncio.gather(*(loop.handle(YES) for loop in loops))
            assert {step.round_id for step in steps} == {4}
            assert at.steps[KeptStep.LOST] == 0


async def test_a_server_that_forgot_everything_is_told_again_what_goes_on() -> None:
    with valkey(lasting=False) as server:
        async with worker(RedisStore.connect(server.url, timeout_s=0.2)) as at:
            loop = at.loop("told-again")
            await loop.open()
            first = await loop.handle(YES)
            await loop.handle(ACCOUNT)
            server.kill()
            server.start()
            async with asyncio.timeout(20):
                while at.told[-1:] != [False]:  # seen by itself: the call says nothing meanwhile
                    await asyncio.sleep(0.01)
            assert (await state_of(server.url, "told-again"))[2]["account_check"] == "4417"
            again = await loop.handle(YES, round_id=1)  # answers of the last seconds too
            assert again.repeated and again.actions == first.actions


async def test_a_store_that_never_came_is_not_told_to_be_back(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    lasting = CutStore.connect(redis_url)
    assert isinstance(lasting, CutStore)
    lasting.cut = "before"
    async with worker(lasting) as at, asyncio.timeout(20):
        while not at.store.away:
            await asyncio.sleep(0.01)
    assert at.told == [True] and "the store is back" not in caplog.text
