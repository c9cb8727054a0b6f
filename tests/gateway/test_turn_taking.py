"""Who has the turn where caller and bot meet, over a socket: interruptions, backchannels, keys, slow replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.asr import AsrJob
from audio.formats import Pcm16
from dialogue.store import MemoryStore
from gateway.inference.job_queue import Urgency
from gateway.inference.local import LocalInference
from gateway.inference.seam import Understood
from tests.gateway.harness import Peer, Rig, rig, silence, speech

pytestmark = pytest.mark.unit

STORY = "This is a long story that the bot tells and that takes a good while to tell you"
QUESTION = "Do you want to hear more of it now or would you rather not hear any more"
FLOW = f"""
start: greet
filler: Just a moment
no_input: {{after_ms: NO_INPUT, prompts: [Are you there], give_up: bye}}
no_match: {{prompts: [Sorry what was that again please say it once more for me], give_up: bye}}
keys: {{"0": person}}
slots:
  account: {{type: digits, length: 4}}
nodes:
  greet:
    say: {STORY}
    ask: {QUESTION}
    expect: yes_no
    on:
      affirm: which
      more: {{say: {STORY} again, stay: listen}}
  which:
    ask: What is the number of your account with us please tell me all the four digits
    collect: account
    then: bye
  bye:
    say: Good bye
    hang_up: done
  person: {{say: One second, transfer: agent}}
"""
MUST_HEAR = FLOW.replace(f"say: {STORY}\n", f"say: {{text: {STORY}, interruptible: false}}\n", 1)
MENU = """
start: menu
no_match: {prompts: [Sorry], give_up: bye}
keys: {"9": bye}
slots:
  account: {type: digits, length: 4}
nodes:
  menu:
    ask: Press one for bills or two for the rest of what we do for you here today
    keys: {"1": bills, "2": menu}
  bills:
    ask: Press one for the new one or two for the old one whichever you want to hear of
    keys: {"1": number, "2": bye}
  number: {ask: Key in your number now please and do it carefully, collect: account, then: bye}
  bye: {say: Good bye, hang_up: done}
"""
_MARKS = 0x1F


class Caller:
    """A peer whose words are known: each utterance carries its number in the lowest bits of its samples."""

    def __init__(self) -> None:
        self._words: list[str] = [""]

    def says(self, words: str) -> Pcm16:
        """The sound of these words: the same speech always, marked."""
        self._words.append(words)
        pcm = speech()
        return (pcm & ~_MARKS) | (len(self._words) - 1)

    def hear(self, job: AsrJob) -> str:
        """The recogniser: the marks found, in order."""
        marks = job.pcm & _MARKS
        counts = np.bincount(marks[job.pcm != 0], minlength=len(self._words))
        found = [n for n in range(1, len(self._words)) if counts[n] > 2000]
        return " ".join(self._words[n] for n in sorted(found, key=lambda n: int((marks == n).argmax())))


@dataclass
class Call:
    """One call in progress."""

    rig: Rig
    peer: Peer
    caller: Caller
    store: MemoryStore

    async def says(self, words: str, *, tail_ms: int = 1000) -> None:
        """Say this, and be silent after it; it arrives in one burst."""
        await self.peer.send(np.concatenate([self.caller.says(words), silence(tail_ms)]))

    async def keys(self, keys: str) -> None:
        for digit in keys:
            await self.peer.say(type="dtmf", digit=digit)

    async def prompt(self, count: int) -> str:
        """The text of the `count`-th prompt, once it sounds."""
        return str((await self.peer.event("prompt", count=count))["text"])

    async def heard_out(self, count: int) -> None:
        """Until the `count`-th prompt that is not cut has been sent to its end, and "played"."""
        mark = await self.peer.event("mark", count=count)
        await self.peer.say(type="mark_reached", name=mark["name"])

    async def goes_on(self) -> None:
        """Until another fifth of a second of the bot has come."""
        before = len(self.peer.audio)
        async with asyncio.timeout(20):
            while len(self.peer.audio) <= before + 3200:
                await asyncio.sleep(0.01)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.peer.events if event["type"] == kind]

    def transcripts(self) -> list[str]:
        return [event["text"] for event in self.of("transcript")]

    def verdicts(self, verdict: str) -> float:
        return self.rig.metric("voicegate_overlaps_total", verdict=verdict)

    async def state(self) -> dict[str, Any]:
        body = await self.store.read("call")
        assert body is not None
        return dict(json.loads(body))


@asynccontextmanager
async def calling(folder: Path, *, flow: str = FLOW, hear: str | None = None, **environ: str) -> AsyncIterator[Call]:
    """A call just greeted. `hear`: what the recogniser hears whatever is said; `environ`: settings."""
    caller, store = Caller(), MemoryStore()
    environ = {"turns_hello_ms": "0", "limits_flood_s": "60", **environ}
    settings = {f"VOICEGATE_{name.upper()}": value for name, value in environ.items()}
    async with rig(
        folder, hear=caller.hear if hear is None else hear, store=store, flow=flow, environ=settings
    ) as running:
        peer = await running.peer(start={"call_id": "call"})
        await peer.event("prompt")
        yield Call(running, peer, caller, store)


# Barge-in.


async def test_an_interruption_empties_the_prompts_and_what_was_heard_is_kept(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await asyncio.sleep(0.2)
        await call.says("more")
        await call.peer.event("clear")
        assert await call.prompt(2) == f"{STORY} again"
        assert call.verdicts("interruption") == 1
        (turn,) = (await call.state())["history"]
        assert turn["said"] == "more" and turn["heard"] and STORY.startswith(turn["heard"])
        assert len(turn["heard"].split()) <= 8, "about a fifth of a second at 60 ms a word"


@pytest.mark.parametrize("words", ["okay", "mm hmm", "yes right", "嗯", "好的", ""])
async def test_a_backchannel_or_a_cough_lets_the_prompt_go_on_where_it_stopped(tmp_path: Path, words: str) -> None:
    async with calling(tmp_path) as call:
        await call.says(words)
        await call.peer.event("clear")
        await call.heard_out(2)
        whole_ms = 60 * len(f"{STORY} {QUESTION}".split())
        clears = len(call.of("clear"))  # the recording has a pause, so the prompt is held once or twice
        again_ms = len(call.peer.audio) / 16 - whole_ms
        assert 0 <= again_ms <= 130 * clears, "the whole, and once more what had been sent ahead"
        assert call.transcripts() == [] and [e["text"] for e in call.of("prompt")][0] == STORY
        assert call.verdicts("backchannel" if words else "no_words") == 1
        assert (await call.state())["history"] == []


async def test_agreement_over_a_question_that_wants_it_is_an_answer(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.prompt(2)
        await asyncio.sleep(0.4)  # sounding is sent ahead of being heard
        await call.says("yes")
        assert (await call.prompt(3)).startswith("What is the number")
        (turn,) = (await call.state())["history"]
        assert turn["heard"].startswith(f"{STORY} Do") and not turn["heard"].endswith("any more")


async def test_a_backchannel_is_known_at_its_pause_and_the_turns_end_is_not_waited_for(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.says("okay", tail_ms=400)
        await call.peer.event("clear")
        await call.goes_on()
        assert call.of("speech_ended") == []


async def test_a_caller_who_goes_on_after_a_backchannel_holds_the_prompt_again(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.says("okay", tail_ms=400)
        await call.peer.event("clear")
        await call.goes_on()
        await call.says("but more")
        await call.peer.event("clear", count=2)
        assert await call.prompt(2) == f"{STORY} again"
        assert call.transcripts() == ["okay but more"]


async def test_the_hello_of_who_picks_up_does_not_cut_the_greeting(tmp_path: Path) -> None:
    async with calling(tmp_path, turns_hello_ms="2000") as call:
        await call.says("hello")
        await call.heard_out(2)
        assert call.transcripts() == [] and call.verdicts("hello") == 1
    async with calling(tmp_path, turns_hello_ms="0") as late:
        await asyncio.sleep(0.3)
        await late.says("hello")
        await late.peer.event("transcript")
        assert late.verdicts("interruption") == 1


async def test_what_must_be_heard_is_heard_out_and_the_words_are_answered_after_it(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=MUST_HEAR) as call:
        await call.says("more")
        await call.peer.event("transcript")
        await call.heard_out(3)
        assert [e["text"] for e in call.of("prompt")][::2] == [STORY, f"{STORY} again"]
        assert call.of("clear") == []


# The caller who goes on after a pause.


async def test_words_that_come_as_the_reply_begins_are_one_turn_with_those_before(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.prompt(3)
        await call.says("four four")
        assert (await call.prompt(4)).startswith("What is the number"), "understood as one, at the question before"
        await call.says("one seven")
        transcripts = [await call.peer.event("transcript", count=n) for n in (1, 2, 3)]
        assert [(t["round_id"], t["text"], t["supersedes"]) for t in transcripts] == [
            (1, "yes", None),
            (2, "yes four four", 1),
            (3, "yes four four one seven", 2),
        ]


async def test_a_number_said_in_two_halves_is_one(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.heard_out(3)
        await call.says("four four")
        sorry = await call.prompt(4)
        assert sorry.startswith("Sorry")
        await call.goes_on()
        await call.says("one seven")
        assert (await call.peer.event("hangup"))["reason"] == "done"
        state = await call.state()
        assert state["slots"]["account"]["value"] == "4417"
        assert [(t["round_id"], t["said"], t["supersedes"]) for t in state["history"]] == [
            (1, "yes", None),
            (3, "four four one seven", 2),
        ]
        assert call.rig.metric("voicegate_turns_total", outcome="joined") == 1
        heard = state["history"][1]["heard"]
        assert heard and heard != sorry and sorry.startswith(heard)


async def test_joined_words_are_no_callers_who_waits_while_they_are_only_speculated_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Urgency]] = []
    understand = LocalInference.understand

    async def recorded(self: LocalInference, model: str, text: str, **options: Any) -> Understood:
        asked.append((text, options["errand"].urgency))
        return await understand(self, model, text, **options)

    monkeypatch.setattr(LocalInference, "understand", recorded)
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.prompt(3)
        await call.says("four four", tail_ms=400)
        async with asyncio.timeout(20):
            while "yes four four" not in dict(asked):
                await asyncio.sleep(0.01)
        await call.peer.send(silence(1000))
        await call.prompt(4)
        assert [urgency for text, urgency in asked if text == "yes four four"] == [
            Urgency.SPECULATIVE,
            Urgency.ENDPOINT,
        ]


@pytest.mark.parametrize("join_ms", ["0", "100"])
async def test_later_words_are_a_turn_of_their_own(tmp_path: Path, join_ms: str) -> None:
    async with calling(tmp_path, turns_join_ms=join_ms) as call:
        await call.heard_out(2)
        await call.says("more")
        await call.prompt(3)
        await asyncio.sleep(0.4)
        await call.says("more of it")
        await call.prompt(4)
        assert call.transcripts() == ["more", "more of it"]
        assert [t["supersedes"] for t in (await call.state())["history"]] == [None, None]


async def test_a_backchannel_over_the_reply_joins_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("more")
        await call.prompt(3)
        await call.says("okay")
        await call.heard_out(3)
        assert call.transcripts() == ["more"] and call.verdicts("backchannel") == 1


async def test_a_reply_that_is_ready_while_the_caller_speaks_waits_for_the_words(tmp_path: Path) -> None:
    async with calling(tmp_path, asr_speculate="false") as call:
        await call.heard_out(2)
        before = len(call.peer.audio)
        call.rig.asr.gate.clear()
        await call.says("more")
        await call.peer.event("speech_ended")
        await call.says("and then", tail_ms=0)
        await call.peer.event("speech_started", count=2)
        call.rig.asr.gate.set()
        await call.peer.event("intent")
        await asyncio.sleep(0.1)
        assert len(call.of("prompt")) == 2 and len(call.peer.audio) == before
        await call.peer.send(silence(1000))
        transcript = await call.peer.event("transcript", count=2)
        assert (transcript["text"], transcript["supersedes"]) == ("more and then", 1)
        assert await call.prompt(3) == f"{STORY} again"


async def test_what_ends_the_call_is_not_taken_back(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.keys("0")
        await call.prompt(3)
        await call.says("more")
        assert (await call.peer.event("transfer"))["target"] == "agent"
        assert call.transcripts() == []


# Slow replies.


async def test_a_slow_reply_is_announced_once_and_the_announcement_is_no_reply(tmp_path: Path) -> None:
    async with calling(tmp_path, turns_filler_ms="150", asr_speculate="false") as call:
        await call.heard_out(2)
        call.rig.asr.gate.clear()
        await call.says("more")
        assert await call.prompt(3) == "Just a moment"
        await asyncio.sleep(0.3)
        call.rig.asr.gate.set()
        assert await call.prompt(4) == f"{STORY} again"
        assert call.rig.metric("voicegate_fillers_total") == 1
        assert call.rig.metric("voicegate_endpoint_to_reply_seconds_count") == 1
        assert call.rig.metric("voicegate_endpoint_to_reply_seconds_sum") > 0.4
        assert "endpoint_to_reply_ms" not in call.of("prompt")[2]["timing"]


async def test_a_quick_reply_is_not_announced(tmp_path: Path) -> None:
    async with calling(tmp_path, turns_filler_ms="500") as call:
        await call.heard_out(2)
        await call.says("more")
        assert await call.prompt(3) == f"{STORY} again"
        assert call.rig.metric("voicegate_fillers_total") == 0


# Keys.


async def test_keys_and_words_are_one_number(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.heard_out(3)
        await call.says("four four one", tail_ms=0)
        await call.keys("7#")
        await call.peer.send(silence(1000))
        assert (await call.peer.event("hangup"))["reason"] == "done"
        assert (await call.state())["slots"]["account"]["value"] == "4417"
        assert call.transcripts()[-1] == "four four one 7"


async def test_a_number_begun_in_words_is_ended_in_keys_though_the_bot_has_begun_to_speak(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.heard_out(3)
        await call.says("four four one")
        assert (await call.prompt(4)).startswith("Sorry")
        await call.keys("7#")
        assert (await call.peer.event("hangup"))["reason"] == "done"
        state = await call.state()
        assert state["slots"]["account"]["value"] == "4417"
        assert state["history"][-1]["supersedes"] == 2


async def test_keys_before_words_come_before_them(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.heard_out(3)
        await call.keys("44")
        await call.says("one seven")
        await call.peer.event("hangup")
        assert call.transcripts()[-1] == "4 4 one seven"


async def test_keys_pressed_while_a_noise_goes_on_are_an_entry_by_themselves(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.heard_out(2)
        await call.says("yes")
        await call.heard_out(3)
        await call.says("", tail_ms=0)
        await call.keys("4417")
        await call.peer.send(silence(1000))
        assert (await call.peer.event("hangup"))["reason"] == "done"


async def test_a_menu_answers_at_its_key_and_what_is_typed_ahead_reaches_the_next_nodes(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=MENU) as call:
        await call.keys("114417")
        assert (await call.peer.event("hangup"))["reason"] == "done"
        state = await call.state()
        assert state["slots"]["account"]["value"] == "4417"
        assert [(turn["node"], turn["said"]) for turn in state["history"]] == [
            ("menu", "1"),
            ("bills", "1"),
            ("number", "4417"),
        ]
        assert state["history"][0]["heard"] is not None
        assert call.rig.metric("voicegate_turns_total", outcome="dtmf") == 3


async def test_a_hash_after_an_entry_that_needed_none_cuts_no_reply(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=MENU) as call:
        await call.keys("1")
        assert (await call.prompt(2)).startswith("Press one for the new one")
        cleared = len(call.of("clear"))
        await call.goes_on()
        await call.keys("#")
        await call.goes_on()
        assert len(call.of("clear")) == cleared
        await call.heard_out(1)
        await call.keys("1")
        assert (await call.prompt(3)).startswith("Key in your number")


CONFIRMED = """
start: number
no_match: {prompts: [Sorry], give_up: bye}
slots:
  account: {type: digits, length: 4}
nodes:
  number: {ask: Key in your number now please and do it carefully, collect: account, then: right}
  right: {ask: Is that so then press one to have it noted down now, keys: {"1": bye}}
  bye: {say: Good bye, hang_up: done}
"""


async def test_a_key_after_a_number_in_words_and_keys_is_no_part_of_it(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=CONFIRMED, turns_join_ms="100") as call:
        await call.heard_out(1)
        await call.says("four four one", tail_ms=0)
        await call.keys("7#")
        await call.peer.send(silence(1000))
        assert (await call.prompt(2)).startswith("Is that so")
        await call.goes_on()
        await call.goes_on()
        await call.keys("1")
        assert (await call.peer.event("hangup"))["reason"] == "done"
        state = await call.state()
        assert state["slots"]["account"]["value"] == "4417"
        assert [(turn["node"], turn["said"]) for turn in state["history"]] == [
            ("number", "four four one 7"),
            ("right", "1"),
        ]


async def test_keys_before_a_noise_and_within_it_are_one_entry(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=CONFIRMED) as call:
        await call.keys("44")
        await call.says("", tail_ms=0)
        await call.keys("17#")
        assert (await call.prompt(2)).startswith("Is that so"), "while the noise goes on"
        state = await call.state()
        assert state["slots"]["account"]["value"] == "4417"
