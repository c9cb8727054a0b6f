"""`DialogueLoop` over both stores: numbering, retries, races, take-over, preview."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dialogue.loop import DialogueLoop, KeyEntries
from dialogue.step import MetadataError
from dialogue.store import (
    Claim,
    FencedError,
    MemoryStore,
    RoundError,
    StateStore,
    StepWrite,
    StoreError,
    WriteResult,
)
from dialogue.turns import CallerSilent, DigitsPressed, HangUp, Listen
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, last, said, spoken
from tests.dialogue.conftest import Opener

pytestmark = pytest.mark.redis

YES = said("affirm", "yes speaking")
ACCOUNT = said("inform", "[four four one seven](digits)")
FRIDAY = said("promise_to_pay", "i will pay on [friday](date)")


def loop_on(store: StateStore, call_id: str) -> DialogueLoop:
    """A loop of the bill reminder with its day fixed."""
    return DialogueLoop(BILL_REMINDER, store, call_id, today=lambda: TODAY, clock=lambda: 1.75e9)


class Flaky:
    """A store that loses the answer to its next writes: done, but nobody hears of it."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.lose = 0

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        return await self._store.claim(call_id, owner=owner)

    async def read(self, call_id: str) -> str | None:
        return await self._store.read(call_id)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        result = await self._store.write(call_id, step)
        if self.lose:
            self.lose -= 1
            raise StoreError("timed out")
        return result


async def test_a_call_from_greeting_to_promise(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        greeting = await loop.open(metadata={"customer_name": "Mary Brown"})
        assert "Mary Brown" in spoken(greeting.actions)
        assert (greeting.round_id, greeting.resumed, greeting.repeated) == (0, False, False)
        steps = [await loop.handle(event) for event in (YES, ACCOUNT, FRIDAY, YES, said("goodbye", "bye"))]
        assert [step.round_id for step in steps] == [1, 2, 3, 4, 5]
        assert steps[-1].actions[-1] == HangUp(disposition="promise_to_pay")
        await loop.close("bot")
        assert loop.state.ended_by == "bot"
        assert await store.read(call_id) is not None


async def test_a_round_sent_twice_answers_the_same(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        first = await loop.handle(YES, round_id=1)
        second = await loop.handle(ACCOUNT, round_id=2)
        before = await store.read(call_id)
        again = await loop.handle(YES, round_id=1)
        assert (again.actions, again.round_id, again.repeated) == (first.actions, 1, True)
        assert again.state == second.state
        assert await store.read(call_id) == before


async def test_a_round_sent_twice_at_once_by_two_processes_acts_once(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loops = [loop_on(store, call_id) for _ in range(8)]
        await asyncio.gather(*(loop.open(exclusive=False) for loop in loops))
        steps = await asyncio.gather(*(loop.handle(YES, round_id=1) for loop in loops))
        assert {step.actions for step in steps} == {steps[0].actions}
        assert sorted(step.repeated for step in steps) == [False] + [True] * 7
        assert {step.state.round_id for step in steps} == {1}
        assert all(step.state.turns == 1 for step in steps)


async def test_rounds_that_cross_are_put_in_order(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        one, other = loop_on(store, call_id), loop_on(store, call_id)
        await one.open(exclusive=False)
        await other.open(exclusive=False)
        await one.handle(YES, round_id=1)
        step = await other.handle(ACCOUNT, round_id=2)
        assert (step.state.node, step.repeated) == ("tell_bill", False)


async def test_round_numbers_may_leave_gaps(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        await loop.handle(YES, round_id=10)
        with pytest.raises(RoundError, match="round 9"):
            await loop.handle(ACCOUNT, round_id=9)
        with pytest.raises(RoundError, match="count from 1"):
            await loop.handle(ACCOUNT, round_id=0)
        assert (await loop.handle(ACCOUNT)).round_id == 11


async def test_a_reconnect_takes_the_call_over_and_goes_on(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        before = loop_on(store, call_id)
        await before.open()
        await before.handle(YES)
        await before.handle(ACCOUNT)
        after = loop_on(store, call_id)
        resumed = await after.open()
        assert resumed.resumed and spoken(resumed.actions).endswith("Which day will you pay it?")
        assert after.state.slots["account_check"].value == "4417"
        with pytest.raises(FencedError):
            await before.handle(FRIDAY)
        assert (await after.handle(FRIDAY)).round_id == 3


async def test_a_call_closed_by_a_lost_connection_goes_on(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        await loop.handle(YES)
        await loop.close("caller")
        again = loop_on(store, call_id)
        step = await again.open()
        assert step.resumed and isinstance(last(step.actions), Listen)
        assert not again.state.ended


@pytest.mark.parametrize("event", [YES, CallerSilent(), DigitsPressed(digits="1")])
async def test_an_event_tried_again_after_a_lost_answer_counts_once(
    opened: Opener, call_id: str, event: CallerSilent
) -> None:
    async with opened() as sound:
        store = Flaky(sound)
        loop, twin = loop_on(store, call_id), loop_on(MemoryStore(), call_id)
        await loop.open()
        await twin.open()
        store.lose = 2
        for _ in range(2):
            with pytest.raises(StoreError):
                await loop.handle(event)
        step = await loop.handle(event)
        expected = await twin.handle(event)
        assert step.repeated
        assert (step.actions, step.state, step.round_id) == (expected.actions, expected.state, expected.round_id)


async def test_another_event_after_a_lost_answer_comes_after_it(opened: Opener, call_id: str) -> None:
    async with opened() as sound:
        store = Flaky(sound)
        loop = loop_on(store, call_id)
        await loop.open()
        store.lose = 1
        with pytest.raises(StoreError):
            await loop.handle(YES)
        step = await loop.handle(ACCOUNT)
        assert (step.round_id, step.state.node, step.repeated) == (2, "tell_bill", False)


async def test_a_preview_is_what_handle_then_does(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        before = (loop.state, await store.read(call_id))
        preview = loop.preview(YES)
        assert (loop.state, await store.read(call_id)) == before
        step = await loop.handle(YES)
        assert (preview.actions, preview.state, preview.round_id) == (step.actions, step.state, step.round_id)


async def test_events_from_several_tasks_are_handled_one_by_one(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        again = said("repeat", "again")
        steps = await asyncio.gather(*(loop.handle(again) for _ in range(10)))
        assert [step.round_id for step in steps] == list(range(1, 11))


async def test_bad_metadata_leave_no_state(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        with pytest.raises(MetadataError, match="amount"):
            await loop.open(metadata={"amount": "much"})
        assert await store.read(call_id) is None
        assert not (await loop_on(store, call_id).open(metadata={"amount": "10"})).resumed


async def test_state_that_this_version_cannot_read_is_a_store_error(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        foreign = StepWrite(epoch=0, version=0, round_id=None, key="x", body='{"version":0}', answer="{}")
        await store.write(call_id, foreign)
        with pytest.raises(StoreError, match="version 1"):
            await loop_on(store, call_id).open()


# Withdrawn rounds.


async def test_a_caller_who_goes_on_is_heard_whole_in_a_round_of_its_own(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        await loop.handle(YES)
        half = await loop.handle(said("inform", "[four four](digits)"))
        assert half.state.node == "check_account" and half.state.no_match == 1
        assert loop.withdrawable == half.round_id == 2
        whole = replace(said("inform", "[four four one seven](digits)"), supersedes=2, heard="Those digits")
        assert loop.preview(whole).state.node == "tell_bill"
        step = await loop.handle(whole)
        assert (step.round_id, step.state.node, step.state.turns) == (3, "tell_bill", 2)
        assert [(t.round_id, t.supersedes, t.heard) for t in step.state.history] == [
            (1, None, None),
            (3, 2, "Those digits"),
        ]
        again = await loop.handle(whole, round_id=3)
        assert again.repeated and again.actions == step.actions
        stored = await store.read(call_id)
        assert stored is not None and '"supersedes":2' in stored


async def test_a_caller_may_go_on_more_than_once(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        await loop.handle(YES)
        await loop.handle(said("inform", "[four](digits)"))
        await loop.handle(replace(said("inform", "[four four](digits)"), supersedes=2))
        step = await loop.handle(replace(ACCOUNT, supersedes=3))
        assert (step.round_id, step.state.node, step.state.turns, step.state.no_match) == (4, "tell_bill", 2, 0)


async def test_only_the_last_event_can_be_withdrawn_and_never_an_act(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        await loop.open()
        assert loop.withdrawable is None
        await loop.handle(YES)
        await loop.handle(CallerSilent())
        assert loop.withdrawable is None
        step = await loop.handle(replace(ACCOUNT, supersedes=1))
        assert (step.round_id, step.state.turns, step.state.history[-1].supersedes) == (2, 2, None)
        step = await loop.handle(replace(FRIDAY, supersedes=1))
        assert (step.round_id, step.state.turns, step.state.node) == (3, 3, "confirm_promise")
        await loop.handle(said("goodbye", "bye"))
        assert loop.withdrawable is None, "the bot has hung up"


async def test_a_superseding_round_whose_answer_was_lost_is_written_once(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        flaky = Flaky(store)
        loop = loop_on(flaky, call_id)
        await loop.open()
        await loop.handle(YES)
        await loop.handle(said("inform", "[four four](digits)"))
        flaky.lose = 1
        whole = replace(ACCOUNT, supersedes=2)
        with pytest.raises(StoreError):
            await loop.handle(whole)
        step = await loop.handle(whole)
        assert (step.round_id, step.repeated, step.state.node) == (3, True, "tell_bill")
        assert loop.withdrawable is None
        assert (await loop.handle(FRIDAY)).round_id == 4


async def test_where_another_was_faster_the_words_are_an_ordinary_turn(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        slow, fast = loop_on(store, call_id), loop_on(store, call_id)
        await slow.open()
        await slow.handle(YES)
        await fast.open(exclusive=False)
        await fast.handle(ACCOUNT, round_id=2)
        step = await slow.handle(replace(FRIDAY, supersedes=1), round_id=3)
        assert (step.state.node, step.state.turns) == ("confirm_promise", 3)
        assert [turn.supersedes for turn in step.state.history] == [None, None, None]


async def test_what_a_node_waits_for(opened: Opener, call_id: str) -> None:
    async with opened() as store:
        loop = loop_on(store, call_id)
        assert not loop.answers("affirm") and loop.key_entries == KeyEntries()
        await loop.open()
        assert loop.answers("affirm") and not loop.answers("repeat")
        assert loop.key_entries == KeyEntries(entries=frozenset("0"))
        await loop.handle(YES)
        assert loop.key_entries == KeyEntries(entries=frozenset("0"), most_digits=40)
