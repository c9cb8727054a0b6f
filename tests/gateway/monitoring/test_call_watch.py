"""A call's events, from a real worker with scripted models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, cast

import pytest

from dialogue.bots import Bot
from dialogue.loop import DialogueLoop
from dialogue.state import HISTORY_TURNS, DialogueState, Turn
from gateway.monitoring.bus import EventBus, Subscription
from gateway.monitoring.call_watch import MOST_TURNS, CallWatch
from gateway.monitoring.events import (
    BargedIn,
    BudgetMissed,
    CallEnded,
    CallEvent,
    CallPresent,
    CallStarted,
    NodeEntered,
    PromptEnded,
    PromptHeld,
    PromptStarted,
    Published,
    SpeechEnded,
    SpeechStarted,
    TurnHeard,
    TurnSuperseded,
    TurnUnderstood,
)
from gateway.protocols import seam
from nlu.meaning import Meaning, Slot
from tests.gateway.harness import rig, silence, speech

pytestmark = pytest.mark.unit

T = TypeVar("T", bound=CallEvent)


class Collected:
    """Everything a subscription has given, waited for by what is in it."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.all: list[Published] = []

    async def until(self, wanted: Callable[[list[Published]], bool]) -> None:
        async with asyncio.timeout(15):
            while not wanted(self.all):
                self.all += await self._subscription.some()

    def of(self, kind: type[T]) -> list[T]:
        return [one.event for one in self.all if isinstance(one.event, kind)]

    async def first(self, kind: type[T]) -> T:
        await self.until(lambda _: bool(self.of(kind)))
        return self.of(kind)[0]


async def test_a_call_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="yes") as at:
        with at.services.bus.subscribe() as subscription:
            got = Collected(subscription)
            peer = await at.peer(start={"call_id": "c1", "caller": "+15551234567"})
            started = await got.first(CallStarted)
            assert (started.bot, started.protocol, started.caller) == ("tester", "native", "+15551234567")
            assert started.models["asr"] == at.services.settings.asr.model and not started.resumed
            await got.first(PromptStarted)
            await peer.send(silence(200))
            await peer.send(speech())
            await peer.send(silence(2000))
            ended = await got.first(CallEnded)
            assert (ended.ended_by, ended.disposition, ended.turns) == ("bot", "done", 1)
        kinds = [one.event.type for one in got.all]
        order = ["call_started", "node_entered", "prompt_started", "speech_started", "turn_heard", "turn_understood"]
        at_index = [kinds.index(kind) for kind in order]
        assert at_index == sorted(at_index)
        assert [one.seq for one in got.all] == list(range(1, len(got.all) + 1))
        assert {one.call_id for one in got.all} == {"c1"}
        times = [(one.at_ms, one.time) for one in got.all]
        assert times == sorted(times)
        heard, understood = got.of(TurnHeard)[0], got.of(TurnUnderstood)[0]
        assert (heard.text, understood.intent, heard.round_id) == ("yes", "affirm", understood.round_id)
        assert [(one.before, one.node) for one in got.of(NodeEntered)] == [("", "greet"), ("greet", "bye")]
        assert got.of(SpeechStarted)[0].speech_ms < got.of(SpeechEnded)[0].speech_ms
        reply = next(one for one in got.of(PromptStarted) if one.node == "bye")
        assert {"tail_ms", "asr_ms", "nlu_ms", "dialogue_ms", "tts_ms", "endpoint_to_reply_ms"} <= set(reply.timing)


async def test_a_prompt_that_is_spoken_over_is_held_judged_and_ends_with_what_was_heard_of_it(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as at:
        with at.services.bus.subscribe() as subscription:
            got = Collected(subscription)
            peer = await at.peer(start={"call_id": "c2"})
            await got.first(PromptStarted)
            await peer.send(silence(100))
            await peer.send(speech())
            held = await got.first(PromptHeld)
            assert 0 < held.after_ms < 2000
            await peer.send(silence(2000))
            assert (await got.first(BargedIn)).verdict == "interruption"
            heard = (await got.first(PromptEnded)).heard
            greeting = "Hello this is the test bot speaking to you now and for quite a while"
            assert heard is not None and greeting.startswith(heard)


async def test_nothing_is_built_while_nobody_listens_and_a_late_watcher_learns_where_a_call_stands(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, hear="more") as at:
        peer = await at.peer(start={"call_id": "c3"})
        await peer.event("prompt")
        await peer.send(silence(200))
        await peer.send(speech())
        await peer.send(silence(2000))
        await peer.event("prompt", count=2, timeout_s=15)
        (session,) = at.worker.sessions
        now = session.watch.present(turns=10)
        assert now is not None and now.seq == 0  # not one event was numbered
        assert isinstance(now.event, CallPresent)
        present = now.event
        assert (present.bot, present.node, present.turns) == ("tester", "greet", 1)
        assert [(turn.said, turn.intent) for turn in present.history] == [("more", "more")]


class Remembered:
    """A dialogue as far as a snapshot looks at it."""

    epoch = 1

    def __init__(self, rounds: Iterable[int]) -> None:
        self.state = DialogueState()
        self.remember(*rounds)

    def remember(self, *rounds: int) -> None:
        turns = (Turn(round_id=n, node="ask", said=f"said {n}", intent="i", score=0.5, reply="") for n in rounds)
        history = (*self.state.history, *turns)[-HISTORY_TURNS:]
        self.state = replace(self.state, history=history, turns=len({*rounds}) + self.state.turns)


def opened(dialogue: Remembered) -> CallWatch:
    watch = CallWatch(EventBus())
    bot = cast(Bot, SimpleNamespace(name="b", version="1", language="en"))
    watch.opened(cast(DialogueLoop, dialogue), bot, "c1", caller=None, models={}, resumed=False)
    return watch


def rounds_told(watch: CallWatch, turns: int = MOST_TURNS) -> list[int]:
    now = watch.present(turns=turns)
    assert now is not None and isinstance(now.event, CallPresent)
    return [turn.round_id for turn in now.event.history]


def test_one_who_opens_a_call_late_has_it_from_its_first_words() -> None:
    dialogue = Remembered([])
    watch = opened(dialogue)
    for text in ("Hello.", "Who is there?"):
        watch.told(seam.PromptStarted(round_id=0, text=text, node="ask", timing={}))
    for number in range(1, 31):
        dialogue.remember(number)
        watch.stepped(dialogue.state)
    watch.told(seam.PromptStarted(round_id=30, text="Goodbye.", node="bye", timing={}))
    assert rounds_told(watch) == list(range(1, 31))
    assert rounds_told(watch, turns=1) == [30]
    now = watch.present(turns=1)
    assert now is not None and isinstance(now.event, CallPresent) and now.event.opening == "Hello. Who is there?"
    for number in range(31, 200):
        dialogue.remember(number)
        watch.stepped(dialogue.state)
    assert rounds_told(watch) == list(range(100, 200))


def test_a_turn_that_was_withdrawn_is_not_told_and_one_that_came_back_with_that_is_told_once() -> None:
    dialogue = Remembered(range(1, 11))
    watch = opened(dialogue)  # resumed: these are what the store had
    before = dialogue.state
    dialogue.remember(11)
    watch.stepped(dialogue.state)
    dialogue.state = before  # the caller went on
    watch.stepped(dialogue.state)
    assert rounds_told(watch) == list(range(1, 11))
    dialogue.remember(12)
    watch.stepped(dialogue.state)
    assert rounds_told(watch) == [*range(1, 11), 12]


async def test_nothing_is_told_of_a_call_behind_its_end(tmp_path: Path) -> None:
    """A watcher would take it for a call again, and miss it."""
    async with rig(tmp_path) as at:
        with at.services.bus.subscribe() as subscription:
            got = Collected(subscription)
            peer = await at.peer(start={"call_id": "c4"})
            await got.first(PromptStarted)
            (session,) = at.worker.sessions
            await peer.say(type="stop")
            await got.first(CallEnded)
            session.watch.supervised("unlisten", "ann")
            got.all += subscription.take()
            assert got.all[-1].event.type == "call_ended"
            assert not session.watch.is_open and session.watch.present(turns=1) is None


def watched() -> tuple[CallWatch, Subscription]:
    bus = EventBus()
    subscription = bus.subscribe()
    subscription.__enter__()
    return CallWatch(bus), subscription


def test_a_round_that_is_superseded_is_told_with_the_round_that_takes_its_place() -> None:
    watch, subscription = watched()
    watch.told(seam.TurnHeard(round_id=4, text="four four one seven", supersedes=3))
    heard, superseded = (one.event for one in subscription.take())
    assert heard == TurnHeard(round_id=4, text="four four one seven", supersedes=3)
    assert superseded == TurnSuperseded(round_id=3, by_round_id=4)


@pytest.mark.parametrize(("took_ms", "missed"), [(200.0, False), (200.1, True)])
def test_a_figure_over_its_budget_is_told(took_ms: float, missed: bool) -> None:
    watch, subscription = watched()
    timing = {"endpoint_to_reply_ms": took_ms, "asr_ms": 900.0}
    watch.told(seam.PromptStarted(round_id=1, text="", node="n", timing=timing))
    told = [one.event for one in subscription.take() if isinstance(one.event, BudgetMissed)]
    assert told == ([BudgetMissed(budget="endpoint_to_reply_ms", took_ms=took_ms, limit_ms=200.0)] if missed else [])


def test_an_intent_names_the_version_that_gave_it() -> None:
    watch, subscription = watched()
    watch.nlu_version = "8c07996d7dac"
    meaning = Meaning("pay", 0.98765, (Slot("date", "friday", 0, 6),))
    watch.told(seam.TurnUnderstood(round_id=2, meaning=meaning))
    (one,) = subscription.take()
    assert one.event == TurnUnderstood(
        round_id=2, intent="pay", score=0.9877, slots=(("date", "friday"),), model="8c07996d7dac"
    )
