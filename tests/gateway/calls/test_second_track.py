"""One call's second track: asked at the pause or at the end, in time or not at all; and whole calls with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from dialogue.assistant import Assistant
from dialogue.bots import Bot, load_bot
from dialogue.loop import DialogueLoop
from dialogue.store import MemoryStore
from dialogue.turns import CallerSaid, Say
from gateway.calls.second_track import SecondTrack
from gateway.outside.assistants import Assistants
from gateway.settings import load
from nlu.meaning import OUT_OF_SCOPE, Meaning
from tests.gateway.chat_model import ChatModel, Play, answers, chat_model, chunk, then
from tests.gateway.harness import rig, silence, speech, write_bot

pytestmark = pytest.mark.unit

FLOW = """
start: greet
no_input: {after_ms: NO_INPUT, prompts: [Are you there], give_up: bye}
no_match: {prompts: [Sorry I do not know], give_up: bye}
nodes:
  greet:
    ask: Would you like to come or not
    on: {affirm: bye, more: quiet}
  quiet: {ask: Sure, assistant: false, on: {affirm: bye}}
  bye: {say: Good bye, hang_up: done}
"""
NEVER = 5000  # of `wait_ms`: a test that waits so long has failed
ANSWER = chunk("It is near. Take the bus.", finish_reason="stop")


@dataclass
class Call:
    """A dialogue with a second track and what came of it."""

    track: SecondTrack
    dialogue: DialogueLoop
    model: ChatModel
    rendered: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    async def complete(self, text: str = "is it far", *, intent: str = OUT_OF_SCOPE) -> tuple[str, ...]:
        said = await self.track.complete(saying(text, intent), since=time.monotonic())
        await self.dialogue.handle(said)
        return said.assistant


def saying(text: str, intent: str = OUT_OF_SCOPE) -> CallerSaid:
    return CallerSaid(text=text, meaning=Meaning(intent, 1.0))


@asynccontextmanager
async def call(folder: Path, play: Play, *, wait_ms: int = NEVER, unsayable: str = "") -> AsyncIterator[Call]:
    """A call of the test bot that has been opened; a sentence with `unsayable` in it cannot be rendered."""
    async with chat_model(play) as model:
        assistant = Assistant(url=model.url, model="m", instructions="Be brief.", wait_ms=wait_ms)
        bot: Bot = replace(load_bot(write_bot(folder / "bot", flow=FLOW)), assistant=assistant)
        dialogue = DialogueLoop(bot, MemoryStore(), "call")
        await dialogue.open()
        rendered, outcomes = list[str](), list[str]()

        async def render(say: Say) -> None:
            if unsayable and unsayable in say.text:
                raise ValueError("no voice for this")
            rendered.append(say.text)

        assistants = Assistants(load(environ={"VOICEGATE_ASSISTANT_HOSTS": "127.0.0.1"}).assistant)
        async with SecondTrack(assistants, bot=bot, dialogue=dialogue, render=render, count=outcomes.append) as track:
            yield Call(track, dialogue, model, rendered, outcomes)


async def test_what_nothing_answers_is_asked_and_said(tmp_path: Path) -> None:
    async with call(tmp_path, answers(ANSWER)) as made:
        assert await made.complete() == ("It is near.", "Take the bus.")
        assert made.dialogue.state.history[-1].reply == "It is near. Take the bus. Would you like to come or not"
        await made.complete("and now")
    _, (_, second) = made.model.requests
    assert [m["content"] for m in second["messages"]][1:] == [
        "is it far",
        "It is near. Take the bus. Would you like to come or not",
        "and now",
    ]
    assert made.rendered == ["It is near.", "Take the bus."] * 2
    assert made.outcomes == ["answered", "answered"]


async def test_nobody_is_asked_about_what_is_understood(tmp_path: Path) -> None:
    async with call(tmp_path, answers(ANSWER)) as made:
        assert await made.complete("more", intent="more") == ()
        assert await made.complete("is it far") == ()  # the node does without
        assert await made.complete("yes", intent="affirm") == ()
        assert await made.complete("after the end") == ()
    assert made.model.requests == [] and made.outcomes == []


async def test_nobody_is_asked_after_the_end(tmp_path: Path) -> None:
    async with call(tmp_path, answers(b"data: {\n\n")) as made:
        while not made.dialogue.state.ended:
            await made.complete()
        asked = len(made.model.requests)
        assert made.dialogue.state.history[-1].unanswered
        assert await made.complete() == ()
    assert len(made.model.requests) == asked == 2


async def test_what_was_asked_at_the_pause_is_asked_once(tmp_path: Path) -> None:
    async with call(tmp_path, then(None, ANSWER)) as made:
        made.track.look_ahead(saying("is it far"))
        made.track.look_ahead(saying("is it far"))
        async with asyncio.timeout(20):
            await made.model.asked.wait()
        made.model.go_on.set()
        assert await made.complete() == ("It is near.", "Take the bus.")
    assert len(made.model.requests) == 1 and made.outcomes == ["answered"]


async def test_whoever_waits_for_nothing_asks_at_pauses_alone(tmp_path: Path) -> None:
    async with call(tmp_path, answers(ANSWER), wait_ms=0) as made:
        assert await made.complete() == ()
        assert made.model.requests == []
        made.track.look_ahead(saying("is it near"))
        async with asyncio.timeout(20):
            while len(made.rendered) < 2:
                await asyncio.sleep(0.001)
        assert await made.complete("is it near") == ("It is near.", "Take the bus.")


async def test_a_caller_who_goes_on_takes_no_answer_from_the_turn_that_waits_for_it(tmp_path: Path) -> None:
    async with call(tmp_path, then(None, ANSWER)) as made:
        turn = asyncio.create_task(made.complete())
        async with asyncio.timeout(20):
            await made.model.asked.wait()
        made.track.look_ahead(saying("and is it dear"))  # a pause in what comes next
        made.model.go_on.set()
        assert await turn == ("It is near.", "Take the bus.")
    assert len(made.model.requests) == 1 and made.outcomes == ["answered"]


async def test_other_words_at_the_end_are_asked_anew(tmp_path: Path) -> None:
    async with call(tmp_path, answers(ANSWER)) as made:
        made.track.look_ahead(saying("is it"))
        assert await made.complete("is it far") != ()
    assert made.model.requests[-1][1]["messages"][-1]["content"] == "is it far"
    assert made.outcomes == ["unwanted", "answered"]


async def test_words_that_are_understood_after_all_drop_it(tmp_path: Path) -> None:
    async with call(tmp_path, then(None)) as made:
        made.track.look_ahead(saying("is it"))
        async with asyncio.timeout(20):
            await made.model.asked.wait()
            assert await made.complete("yes", intent="affirm") == ()
            await made.model.left.wait()
    assert made.outcomes == ["unwanted"] and made.dialogue.state.ended


@pytest.mark.parametrize(
    ("play", "sentences", "outcome"),
    [
        (then(None), (), "late"),
        (then(chunk("It is near. Take the"), None), ("It is near.",), "cut"),
    ],
)
async def test_what_is_late_is_done_without(
    tmp_path: Path, play: Play, sentences: tuple[str, ...], outcome: str
) -> None:
    async with call(tmp_path, play, wait_ms=500 if outcome == "late" else NEVER) as made:
        if sentences:
            made.track.look_ahead(saying("is it far"))
            async with asyncio.timeout(20):
                while not made.rendered:
                    await asyncio.sleep(0.001)
            # its time is over: the turn ended long ago
            said = await made.track.complete(saying("is it far"), since=time.monotonic() - NEVER)
            assert said.assistant == sentences
        else:
            assert await made.complete() == ()
            assert made.dialogue.state.history[-1].unanswered
    assert made.outcomes == [outcome]


@pytest.mark.parametrize(
    "play", [answers(b"data: {\n\n"), answers(chunk("So. And it breaks")), answers(b"no stream at all")]
)
async def test_what_fails_is_a_misunderstanding_at_once(tmp_path: Path, play: Play) -> None:
    async with call(tmp_path, play) as made:
        async with asyncio.timeout(NEVER / 1000):
            assert await made.complete() == ()
        assert made.dialogue.state.history[-1].reply.startswith("Sorry")
    assert made.outcomes == ["failed"]


async def test_a_voice_that_cannot_say_it_costs_the_answer_and_no_more(tmp_path: Path) -> None:
    async with call(tmp_path, answers(ANSWER), unsayable="bus") as made:
        assert await made.complete() == ("It is near.",)
    assert made.outcomes == ["failed"]


async def test_an_answer_without_words_is_none(tmp_path: Path) -> None:
    async with call(tmp_path, answers(b"data: [DONE]\n\n")) as made:
        assert await made.complete() == ()
    assert made.outcomes == ["empty"]


async def test_the_end_of_the_call_ends_the_question(tmp_path: Path) -> None:
    async with call(tmp_path, then(None)) as made:
        made.track.look_ahead(saying("is it far"))
        async with asyncio.timeout(20):
            await made.model.asked.wait()
    assert made.outcomes == ["unwanted"]


# Whole calls.


def section(url: str, wait_ms: int) -> str:
    return f"\nassistant: {{url: '{url}', model: m, wait_ms: {wait_ms}}}\n"


HOSTS = {"VOICEGATE_ASSISTANT_HOSTS": "127.0.0.1"}


async def test_a_caller_hears_the_assistant_and_then_the_question(tmp_path: Path) -> None:
    async with chat_model(answers(ANSWER)) as model:
        more = section(model.url, NEVER)
        async with rig(tmp_path, hear="is it far", flow=FLOW, more=more, environ=HOSTS) as made:
            peer = await made.peer(start={})
            await peer.event("mark")
            await peer.send(np.concatenate([speech(), silence(1000)]))
            await peer.event("prompt", count=4)
            prompts = [(e["text"], e["source"]) for e in peer.events if e["type"] == "prompt"]
            assert prompts == [
                ("Would you like to come or not", None),
                ("It is near.", "assistant"),
                ("Take the bus.", "assistant"),
                ("Would you like to come or not", None),
            ]
            assert made.metric("voicegate_assistant_total", outcome="answered") == 1
    assert len(model.requests) == 1


async def test_one_that_is_silent_delays_nothing_but_its_own_wait(tmp_path: Path) -> None:
    async with chat_model(then(None)) as model:
        more = section(model.url, 1)
        async with rig(tmp_path, hear="is it far", flow=FLOW, more=more, environ=HOSTS) as made:
            peer = await made.peer(start={})
            await peer.event("mark")
            await peer.send(np.concatenate([speech(), silence(1000)]))
            sorry = await peer.event("prompt", count=2)
            assert (sorry["text"], sorry["source"]) == ("Sorry I do not know", None)
