"""Calls through a real socket with scripted models: what a peer hears, and what it may do wrong."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from audio.formats import AudioFormat, Encoding
from audio.framing import encode
from dialogue.codec import decode_state
from dialogue.store import MemoryStore, StepWrite, WriteResult
from gateway.calls import session
from gateway.inference.local import LocalInference
from gateway.inference.seam import InferenceError
from nlu.meaning import Meaning
from tests.fakes import KeywordNlu, ScriptedAsr
from tests.gateway.harness import Peer, rig, silence, speech

pytestmark = pytest.mark.unit

GREETING = "Hello this is the test bot speaking to you now and for quite a while"
GREETING_MS = 60 * len(GREETING.split())


async def quiet(peer: Peer, name: str | None = None) -> None:
    """Until the bot has said everything, with the mark echoed as a client would."""
    await peer.event("prompt")
    mark = await peer.event("mark", count=peer.kinds().count("prompt"))
    await peer.say(type="mark_reached", name=name or mark["name"])


async def speak(peer: Peer) -> None:
    """One utterance with its tail, in a burst."""
    await peer.send(np.concatenate([speech(), silence(1000)]))


@pytest.mark.parametrize("offered", [None, ["voicegate.v1"], ["strange"], ["strange", "voicegate.v1"]])
async def test_any_subprotocol_is_welcome_and_only_ours_is_named(tmp_path: Path, offered: list[str] | None) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(subprotocols=offered)
        await peer.event("ready")
        assert peer.ws.subprotocol == ("voicegate.v1" if offered and "voicegate.v1" in offered else None)


async def test_a_call_from_greeting_to_the_bots_goodbye(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="yes") as running:
        peer = await running.peer(start={"call_id": "c1", "caller": "+100"})
        assert await peer.event("ready") == {"type": "ready", "call_id": "c1", "resumed": False}
        greeting = await peer.event("prompt")
        assert greeting["text"] == GREETING and greeting["node"] == "greet" and greeting["round_id"] == 0
        assert 0 < greeting["timing"]["first_utterance_ms"] < 200
        await quiet(peer)
        assert abs(len(peer.audio) / 16 - GREETING_MS) < 20
        await speak(peer)
        assert (await peer.event("speech_started"))["at_ms"] < 400
        said = {"type": "transcript", "round_id": 1, "text": "yes", "final": True, "supersedes": None}
        assert (await peer.event("transcript")) == said
        assert (await peer.event("intent"))["intent"] == "affirm"
        reply = await peer.event("prompt", count=2)
        assert reply["text"] == "Good bye" and reply["round_id"] == 1
        assert {"endpoint_to_reply_ms", "asr_ms", "nlu_ms", "dialogue_ms", "tts_ms"} <= set(reply["timing"])
        assert (await peer.event("hangup"))["reason"] == "done"
        assert await peer.closed() == 1000
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="bot") == 1
        assert running.metric("voicegate_calls", protocol="native") == 0


async def test_the_goodbye_is_heard_out_before_the_line_goes_dead(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="yes") as running:
        peer = await running.peer(start={})
        await quiet(peer)
        before = len(peer.audio)
        await speak(peer)
        await peer.closed()
        assert len(peer.audio) - before == 120 * 16  # "Good bye", whole
        assert peer.kinds()[-2:] == ["mark", "hangup"]


async def test_audio_alone_starts_a_call_with_the_defaults(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer()
        await peer.send(silence(20))
        await peer.event("prompt")
        await peer.say(type="start", bot="tester")
        assert (await peer.event("error"))["code"] == "late_start"
        assert peer.ws.state.name == "OPEN"


async def test_a_peer_that_says_nothing_is_greeted_after_the_grace(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer()
        timing = (await peer.event("prompt"))["timing"]
        assert timing["first_utterance_ms"] < 30 + 50  # counted from the end of the grace, with a slow machine's share


async def test_query_keys_start_the_call_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer("?call_id=from-query&encoding=mulaw&token=ignored")
        assert (await peer.event("ready"))["call_id"] == "from-query"
        await quiet(peer)
        assert abs(len(peer.audio) / 8 - GREETING_MS) < 20  # one byte a sample


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("rate", [8000, 16000])
async def test_every_format_is_heard_and_answered_alike(tmp_path: Path, encoding: Encoding, rate: int) -> None:
    fmt = AudioFormat(encoding=encoding, sample_rate_hz=rate)
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer(start={"encoding": encoding.value, "sample_rate": rate})
        await quiet(peer)
        assert abs(len(peer.audio) / fmt.bytes_per_ms - GREETING_MS) < 20
        data = encode(fmt, np.concatenate([speech(rate), silence(1000, rate)]))
        for at in range(0, len(data), 1000):
            await peer.ws.send(data[at : at + 1000])
        await peer.event("transcript")
        job = running.asr.jobs[-1]
        assert job.sample_rate_hz == rate
        assert 600 < len(job.pcm) * 1000 / rate < 2500


@pytest.mark.parametrize("size", [1, 7, 319, 320, 321, 5000, 60_000])
async def test_message_sizes_do_not_matter(tmp_path: Path, size: int) -> None:
    # Thousands of messages take a busy machine longer than the speech in them lasts: that is no line gone silent here.
    patience = {"VOICEGATE_LIMITS_STALLED_SPEECH_S": "60"}
    async with rig(tmp_path, hear="more", environ=patience) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.ws.send(b"")  # legal, and nothing
        await peer.send(np.concatenate([speech(), silence(1000)]), size=size)
        await peer.event("transcript")
        # The last one: a sender who takes his time gets a speculation at the pause within the utterance, thrown away.
        first = running.asr.jobs[-1].pcm
        reference = await running.peer(start={})
        await quiet(reference)
        await reference.send(np.concatenate([speech(), silence(1000)]))
        await reference.event("transcript")
        assert np.array_equal(first, running.asr.jobs[-1].pcm)
        for kind in ("speech_started", "speech_ended"):
            assert await peer.event(kind) == await reference.event(kind)


# What a peer may do wrong.


@pytest.mark.parametrize("text", ["hello", "", "[1]", "{", '"start"', "[" * 5000])
async def test_text_that_is_no_json_object_before_the_start_ends_the_call(tmp_path: Path, text: str) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer()
        await peer.ws.send(text)
        assert (await peer.event("error"))["code"] == "bad_json"
        assert await peer.closed() == 4400


async def test_later_nonsense_is_told_and_the_call_goes_on_until_it_is_too_much(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_PEER_FAULTS": "4"}) as running:
        peer = await running.peer(start={})
        await peer.event("ready")
        for message in ("not json", '{"type":"dance"}', '{"type":"dtmf","digit":"55"}', '{"type":"mark_reached"}'):
            await peer.ws.send(message)
        await peer.event("error", count=4)
        assert [e["code"] for e in peer.events if e["type"] == "error"] == [
            "bad_json",
            "unknown_type",
            "bad_dtmf",
            "bad_mark",
        ]
        await peer.ws.send("more of it")
        assert await peer.closed() == 4400


@pytest.mark.parametrize(
    ("start", "named"),
    [
        ({"encoding": "opus"}, "opus"),
        ({"sample_rate": 7999}, "7999"),
        ({"sample_rate": "fast"}, "fast"),
        ({"channels": 3}, "3"),
        ({"call_id": "no spaces"}, "call_id"),
        ({"bot": 7}, "bot"),
        ({"metadata": [1]}, "metadata"),
        ({"bot": "nobody"}, "tester"),
    ],
)
async def test_a_start_that_cannot_be_used_says_why(tmp_path: Path, start: dict[str, object], named: str) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start=start)
        error = await peer.event("error")
        assert named in error["message"]
        assert await peer.closed() == 4415


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ({"encoding": "aardvark"}, "bad_start: encoding must be one of pcm_s16le, mulaw, alaw"),
        ({"sample_rate": "aardvark"}, "bad_start: sample_rate must be a whole number"),
        ({"sample_rate": 7999}, "bad_start: sample_rate must be 8000 or 16000"),
        ({"call_id": "my aardvark"}, "bad_start: call_id may hold letters"),
        ({"metadata": {"aardvark": {}}}, "bad_start: the values of metadata must be strings"),
        ({"bot": "aardvark"}, "unknown_bot: bot must be one of those loaded (tester)"),
        ({"language": "aardvark"}, "unknown_bot: language must be one that bot tester or its twin speaks"),
    ],
)
async def test_the_log_says_what_was_wanted_and_quotes_no_peer(
    tmp_path: Path, start: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as running:
        assert await (await running.peer(start=start)).closed() == 4415
    (told,) = (line for line in caplog.messages if line.startswith("call ended"))
    assert told.startswith(f"call ended: {reason}")
    assert "aardvark" not in caplog.text and "7999" not in caplog.text


async def test_a_bad_query_is_told_over_the_socket_where_a_browser_can_read_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer("?sample_rate=7999")
        assert "7999" in (await peer.event("error"))["message"]
        assert await peer.closed() == 4415


async def test_a_message_too_big_closes_with_1009(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start={})
        await peer.event("ready")
        with contextlib.suppress(ConnectionClosed):  # the gateway need not take it all in to refuse it
            await peer.ws.send(bytes(10 * 1024 * 1024))
        assert await peer.closed() == 1009
        await running.no_calls()


async def test_a_flood_ends_the_call_and_a_stall_with_its_burst_does_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        patient = await running.peer(start={})
        await patient.event("ready")
        await patient.send(silence(4500))
        flooding = await running.peer(start={})
        await flooding.event("ready")
        await flooding.send(silence(7000))
        assert (await flooding.event("error"))["code"] == "flooding"
        assert await flooding.closed() == 4429
        assert "error" not in patient.kinds()


async def test_no_audio_at_all_ends_the_call_and_says_so(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_NO_AUDIO_S": "0.2"}) as running:
        peer = await running.peer(start={})
        assert (await peer.event("error"))["code"] == "no_audio"
        assert await peer.closed() == 4408


async def test_silence_is_asked_about_and_then_taken_leave_of(tmp_path: Path) -> None:
    async with rig(tmp_path, no_input="200") as running:
        peer = await running.peer(start={})

        async def hold_the_line() -> None:
            while peer.ws.state.name == "OPEN":
                await peer.send(silence(20))
                await asyncio.sleep(0.02)

        line = asyncio.create_task(hold_the_line())
        assert (await peer.event("hangup", timeout_s=8))["reason"] == "done"
        line.cancel()
        assert [e["text"] for e in peer.events if e["type"] == "prompt"] == [GREETING, "Are you there", "Good bye"]


async def test_speech_whose_audio_stops_is_taken_as_ended(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more", environ={"VOICEGATE_LIMITS_STALLED_SPEECH_S": "0.1"}) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.send(speech())  # and no more: the tail never comes
        assert (await peer.event("transcript"))["text"] == "more"


async def test_speech_whose_audio_drips_is_taken_as_ended(tmp_path: Path) -> None:
    """A frame now and then keeps the connection alive, but its 800 ms of tail would take minutes."""
    async with rig(tmp_path, hear="more", environ={"VOICEGATE_LIMITS_STALLED_SPEECH_S": "0.5"}) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.send(speech())

        async def drip() -> None:
            while True:
                await peer.send(silence(20))
                await asyncio.sleep(0.2)

        line = asyncio.create_task(drip())
        assert (await peer.event("transcript"))["text"] == "more"
        line.cancel()


async def test_speech_that_began_before_the_prompt_did_ends_and_is_answered(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer()
        await peer.send(speech(), size=1 << 17)  # one message, and the start of the call: the greeting comes after
        await peer.event("prompt")
        assert peer.kinds().index("speech_started") < peer.kinds().index("prompt")
        await peer.send(silence(1000))
        assert (await peer.event("transcript"))["text"] == "more"
        assert (await peer.event("prompt", count=2))["text"] == "Tell me more about that"


@pytest.mark.model
async def test_the_cascade_hears_calls_of_either_rate(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more", environ={"VOICEGATE_DETECTOR_KIND": "cascade"}) as running:
        for rate in (8000, 16000):
            peer = await running.peer(start={"sample_rate": rate})
            await quiet(peer)
            await peer.send(np.concatenate([speech(rate), silence(1000, rate)]), size=rate // 25)
            assert (await peer.event("transcript"))["text"] == "more"
            assert running.asr.jobs[-1].sample_rate_hz == rate
            await peer.say(type="stop")
            await peer.closed()


async def test_a_noise_that_never_ends_cannot_silence_the_bot(tmp_path: Path) -> None:
    """The prompt goes on by itself; and the noise is cut at the longest utterance, again and again."""
    limits = {
        "VOICEGATE_LIMITS_HELD_PROMPT_S": "0.2",
        "VOICEGATE_ENDPOINTING_MAX_UTTERANCE_MS": "3000",
        "VOICEGATE_DETECTOR_KIND": "webrtc",  # the one that takes a steady hum for speech
    }
    async with rig(tmp_path, hear="", environ=limits) as running:
        peer = await running.peer(start={})
        await peer.event("prompt")
        tone = (8000 * np.sign(np.sin(2 * np.pi * 140 * np.arange(4 * 8000) / 8000))).astype(np.int16)
        await peer.send(tone[: 8000 // 2])
        await peer.event("clear")
        await peer.event("mark")  # heard out, though the utterance is still open
        assert "speech_ended" not in peer.kinds()
        await peer.send(tone[8000 // 2 :])
        await peer.event("speech_ended")
        await peer.event("speech_started", count=2)


async def test_a_call_that_lasts_too_long_is_taken_leave_of(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_CALL_S": "0.3"}) as running:
        peer = await running.peer(start={})
        assert (await peer.event("hangup"))["reason"] == "too_long"
        prompts = [event["text"] for event in peer.events if event["type"] == "prompt"]
        assert prompts == [GREETING, "I am sorry, I have to end this call now. Goodbye."]
        assert await peer.closed() == 1000


async def test_a_call_that_cannot_take_its_leave_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_LEAVE_S", 0.3)
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_CALL_S": "0.8"}) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        running.asr.gate.clear()  # the turn in progress never ends
        await speak(peer)
        assert (await peer.event("error"))["code"] == "call_too_long"
        assert await peer.closed() == 4408


@pytest.mark.parametrize("state", ["opened", "started", "greeting", "speaking", "understanding", "replying"])
async def test_a_peer_may_vanish_in_any_state_and_nothing_is_left(tmp_path: Path, state: str) -> None:
    async with rig(tmp_path, hear="more") as running:
        before = {task for task in asyncio.all_tasks() if "batcher" in task.get_name()} | {asyncio.current_task()}
        peer = await running.peer(start=None if state == "opened" else {"call_id": f"gone-{state}"})
        if state != "opened":
            await peer.event("ready")
        if state == "greeting":
            await peer.event("prompt")
        if state in ("speaking", "understanding", "replying"):
            await quiet(peer)
            if state == "understanding":
                running.asr.gate.clear()
            await peer.send(speech())
            await peer.event("speech_started")
            if state != "speaking":
                await peer.send(silence(1000))
                await peer.event("speech_ended")
            if state == "replying":
                await peer.event("prompt", count=2)
        peer.abort()
        await peer.closed()
        await running.no_calls()
        running.asr.gate.set()
        async with asyncio.timeout(2):
            while {t for t in asyncio.all_tasks() if t.get_name() in ("call", "speculation")} - before:
                await asyncio.sleep(0.01)
        assert running.metric("voicegate_calls", protocol="native") == 0


class _Slow(MemoryStore):
    """The first round's write takes until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        if step.round_id == 1:
            await self.go_on.wait()
        return await super().write(call_id, step)


async def test_utterances_said_during_a_slow_turn_are_not_transcribed_twice(tmp_path: Path) -> None:
    store, environ = _Slow(), {"VOICEGATE_LIMITS_FLOOD_S": "60"}
    async with rig(tmp_path, hear="more", store=store, environ=environ) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        for count in (1, 2, 3):
            await speak(peer)
            await peer.event("speech_ended", count=count)
        store.go_on.set()
        await peer.event("intent", count=3)
        assert running.metric("voicegate_speculation_total", outcome="used") == 3


class _Swallowing(MemoryStore):
    """As redis-py in Python 3.11: a cancellation that comes when a step has just been written is not heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        if step.round_id is not None:
            self.writing.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return await super().write(call_id, step)


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_call_whose_cancellation_is_swallowed_ends_all_the_same(tmp_path: Path, hangs_up: bool) -> None:
    store = _Swallowing()
    async with rig(tmp_path, hear="more", store=store) as running:
        peer = await running.peer(start={"call_id": "swallowed"})
        await quiet(peer)
        await speak(peer)
        async with asyncio.timeout(10):
            await store.writing.wait()
        if hangs_up:
            await peer.say(type="stop")
        else:
            peer.abort()
        await peer.closed()
        await running.no_calls()
        body = await store.read("swallowed")
        assert body is not None
        state = decode_state(body)
        assert (state.round_id, state.ended_by) == (1, "caller" if hangs_up else None)


async def test_a_model_that_fails_ends_that_call_politely_and_no_other(tmp_path: Path) -> None:
    def hear(job: object) -> str:
        if failing:
            raise RuntimeError("out of memory")
        return "more"

    failing = True
    async with rig(tmp_path, hear=hear) as running:
        unlucky, other = await running.peer(start={}), await running.peer(start={})
        await quiet(unlucky)
        await quiet(other)
        await speak(unlucky)
        error = await unlucky.event("error")
        assert error["code"] == "unavailable" and "memory" not in error["message"]
        assert await unlucky.closed() == 1011
        failing = False
        await speak(other)
        assert (await other.event("transcript"))["text"] == "more"


# Turn taking.


async def test_speech_over_a_prompt_stops_it_and_is_answered(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer(start={})
        await peer.event("prompt")
        await peer.send(speech())
        await peer.event("clear")
        held = len(peer.audio)
        assert held < GREETING_MS * 16
        await peer.send(silence(1000))
        await peer.event("prompt", count=2)
        assert running.metric("voicegate_barge_in_seconds_count") == 1
        assert running.metric("voicegate_barge_in_seconds_sum") <= 0.3


async def test_noise_over_a_prompt_resumes_it_where_it_stopped(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="") as running:
        peer = await running.peer(start={})
        await peer.event("prompt")
        await peer.send(speech())
        await peer.event("clear")
        heard_before = len(peer.audio)
        await peer.send(silence(1000))
        await peer.event("mark")
        # Sent in all: the whole greeting, and again what was sent ahead and cleared (the lead and a frame).
        repeated_ms = len(peer.audio) / 16 - GREETING_MS
        assert heard_before < len(peer.audio)
        assert 0 <= repeated_ms <= 130
        assert "transcript" not in peer.kinds() and peer.kinds().count("prompt") == 1


async def test_keys_are_collected_into_one_entry(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start={})
        await peer.event("prompt")
        for digit in "44#":
            await peer.say(type="dtmf", digit=digit)
        await peer.event("clear")
        await peer.event("prompt", count=2)
        assert running.metric("voicegate_turns_total", outcome="dtmf") == 1


async def test_speculation_gives_the_same_reply_sooner_and_counts(tmp_path: Path) -> None:
    replies = {}
    for speculate in ("true", "false"):
        async with rig(tmp_path / speculate, hear="more", environ={"VOICEGATE_ASR_SPECULATE": speculate}) as running:
            peer = await running.peer(start={})
            await quiet(peer)
            await speak(peer)
            reply = await peer.event("prompt", count=2)
            replies[speculate] = (reply["text"], (await peer.event("transcript"))["text"], running.asr.jobs[-1].pcm)
            used = running.metric("voicegate_speculation_total", outcome="used")
            assert used == (1 if speculate == "true" else 0)
            assert len(running.asr.jobs) == 1
    assert replies["true"][:2] == replies["false"][:2]
    assert np.array_equal(replies["true"][2], replies["false"][2])


async def test_the_caller_who_goes_on_wastes_the_speculation_and_is_heard_whole(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.send(np.concatenate([speech(), silence(400), speech(), silence(1000)]))
        await peer.event("transcript")
        assert running.metric("voicegate_speculation_total", outcome="wasted") >= 1
        assert len(running.asr.jobs[-1].pcm) > 1.5 * len(speech())
        assert peer.kinds().count("transcript") == 1


# State across connections.


async def test_a_call_that_was_lost_or_hung_up_goes_on_with_its_id(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer(start={"call_id": "again"})
        await quiet(peer)
        await speak(peer)
        await peer.event("prompt", count=2)
        peer.abort()
        await running.no_calls()
        back = await running.peer(start={"call_id": "again"})
        assert (await back.event("ready"))["resumed"] is True
        await quiet(back)
        await speak(back)
        assert (await back.event("transcript"))["round_id"] == 2
        await back.say(type="stop")
        assert await back.closed() == 1000
        await running.no_calls()
        once_more = await running.peer(start={"call_id": "again"})
        assert (await once_more.event("ready"))["resumed"] is True


async def test_a_second_connection_takes_the_call_over(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        old = await running.peer(start={"call_id": "mine"})
        await old.event("prompt")
        new = await running.peer(start={"call_id": "mine"})
        assert (await new.event("ready"))["resumed"] is True
        assert (await old.event("error"))["code"] == "taken_over"
        assert await old.closed() == 4409
        await new.event("prompt")


async def test_draining_lets_calls_end_and_then_sends_them_away(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start={})
        await peer.event("prompt")
        draining = asyncio.create_task(running.worker.drain(0.3))
        assert await peer.closed() == 1001
        await draining
        assert running.worker.calls == 0


async def test_the_inference_error_names_no_words() -> None:
    """The message goes to the log, so an engine's own message about a text must not be in it."""

    class Quoting(KeywordNlu):
        def predict_lines(self, lines: list[str]) -> list[Meaning]:
            raise ValueError(f"cannot parse {lines[0]}")

    async with LocalInference(ScriptedAsr(), {"m": Quoting({})}) as inference:
        with pytest.raises(InferenceError) as caught:
            await inference.understand("m", "my secret is 4417")
    assert "4417" not in str(caught.value)


async def test_partials_appear_while_the_caller_speaks_and_the_final_words_end_them(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more", environ={"VOICEGATE_ASR_PARTIALS": "true"}) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.send(speech())
        partial = await peer.event("transcript")
        assert (partial["final"], partial["round_id"], partial["text"]) == (False, 1, "more")
        assert 0 < len(running.asr.jobs[0].pcm) <= len(speech()) + 8000
        await peer.send(silence(1000))
        await peer.event("intent")
        transcripts = [event for event in peer.events if event["type"] == "transcript"]
        assert [event["final"] for event in transcripts][-1] is True
        assert len([event for event in transcripts if event["final"]]) == 1


async def test_no_partial_is_asked_for_in_the_tail_which_the_speculation_hears(tmp_path: Path) -> None:
    environ = {"VOICEGATE_ASR_PARTIALS": "true", "VOICEGATE_ENDPOINTING_TAIL_MS": "3000"}
    async with rig(tmp_path, hear="more", environ=environ) as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await peer.send(np.concatenate([speech(), silence(400)]))
        await asyncio.sleep(1.2)
        assert running.asr.jobs and "transcript" not in peer.kinds()
        await peer.send(np.concatenate([speech(), silence(100)]))
        assert (await peer.event("transcript"))["final"] is False, "who goes on is watched again"


async def test_no_partials_unless_they_are_asked_for(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await running.peer(start={})
        await quiet(peer)
        await speak(peer)
        await peer.event("intent")
        assert [event["final"] for event in peer.events if event["type"] == "transcript"] == [True]
