"""One call in every dialect, over a real socket: what each product's peer hears, is told, and may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.framing import encode
from audio.framing import silence as quiet
from gateway.calls.speaker import voice_of
from tests.gateway.harness import FLOW, Rig, rig, silence, speech
from tests.gateway.protocols.peers import MAKERS, JambonzPeer, LinePeer, dialled

pytestmark = pytest.mark.unit

GREETING = "Hello this is the test bot speaking"
ALL = list(MAKERS)


TEXTS = (GREETING, "Good bye", "Are you there", "Tell me more about that", "Sorry")


class Line:
    """A peer on the line and what the bot's prompts are in its dialect."""

    def __init__(self, running: Rig, peer: LinePeer, prompts: dict[str, bytes]) -> None:
        self.running = running
        self.peer = peer
        self.prompts = prompts
        self.rate = peer.fmt.sample_rate_hz

    async def greeted(self) -> None:
        """Until the greeting has been sent whole."""
        await self.peer.until(lambda: len(self.peer.audio) >= len(self.prompts[GREETING]), "greeting")

    async def answered(self, text: str) -> None:
        """Until this prompt is the last thing said."""
        await self.peer.until(lambda: bytes(self.peer.audio).endswith(self.prompts[text]), text)

    async def speak(self) -> None:
        """One utterance with its tail."""
        await self.peer.speak(np.concatenate([speech(self.rate), silence(1000, self.rate)]))


@asynccontextmanager
async def call(folder: Path, name: str, **options: Any) -> AsyncIterator[Line]:
    """A worker with one peer of this kind on the line."""
    flow = FLOW.replace("Hello this is the test bot speaking to you now and for quite a while", GREETING)
    async with rig(folder, flow=flow, **options) as running:
        fmt = MAKERS[name]().fmt
        prompts = {}
        for text in TEXTS:
            voice = voice_of(running.services.bots["tester"])
            prompt = await running.services.prompts.get(text, voice, fmt.sample_rate_hz, None)
            prompts[text] = encode(fmt, prompt.pcm)
        peer = await dialled(name, running.port)
        try:
            yield Line(running, peer, {text: padded(peer, prompt) for text, prompt in prompts.items()})
        finally:
            peer.ws.transport.abort()
            await peer.reader


def padded(peer: LinePeer, prompt: bytes) -> bytes:
    """What the dialect makes of a prompt: whole frames for Asterisk, 80 ms of silence behind it for jambonz."""
    if peer.protocol == "asterisk":
        missing = -len(prompt) % (peer.fmt.bytes_per_ms * 20)
        return prompt + quiet(peer.fmt, missing // peer.fmt.bytes_per_sample)
    if isinstance(peer, JambonzPeer) and not peer.files:
        pcm = np.frombuffer(prompt, "<i2")
        return np.where(pcm == -1, np.int16(0), pcm).astype("<i2").tobytes() + bytes(peer.fmt.bytes_per_ms * 80)
    return prompt


@pytest.mark.parametrize("name", ALL)
async def test_the_greeting_comes_at_once_bit_exact_in_frames_of_the_right_size(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name) as line:
        await line.greeted()
        peer = line.peer
        assert bytes(peer.audio) == line.prompts[GREETING]
        took_s = [peer.first_audio_at - peer.started_at]
        chunk_ms = 320 if name.startswith("freeswitch-json") or name == "jambonz-files" else 20
        body = peer.sizes[:-1] if name.startswith("jambonz-stream") else peer.sizes  # the silence behind the prompt
        assert set(body[:-1]) == {peer.fmt.bytes_per_ms * chunk_ms}
        assert peer.largest <= 16384
        assert line.running.metric("voicegate_calls", protocol=peer.protocol) == 1
        assert peer.ws.subprotocol == (peer.subprotocols[0] if peer.subprotocols else None)
        assert peer.ws.response is not None and "Sec-WebSocket-Extensions" not in peer.ws.response.headers
    while took_s[-1] >= 0.2 and len(took_s) < 5:  # the machine may have been busy; five times in a row it is our doing
        async with call(tmp_path / str(len(took_s)), name) as line:
            await line.greeted()
            took_s.append(line.peer.first_audio_at - line.peer.started_at)
    assert took_s[-1] < 0.2, took_s


@pytest.mark.parametrize("name", ALL)
async def test_a_caller_is_heard_and_the_bot_hangs_up(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name, hear="yes") as line:
        await line.greeted()
        peer, running = line.peer, line.running
        before = len(peer.audio)
        await line.speak()
        assert await peer.closed() == 1000
        assert bytes(peer.audio[before:]) == line.prompts["Good bye"]
        assert peer.hung_up == (peer.protocol != "twilio"), "Twilio has no word for it"
        job = running.asr.jobs[-1]  # a pause for breath may have been speculated on before
        assert job.sample_rate_hz == line.rate
        assert 600 < len(job.pcm) * 1000 / line.rate < 2500
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="bot") == 1


@pytest.mark.parametrize("name", ALL)
async def test_marks_come_in_order_and_the_silence_after_them_is_noticed(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name, no_input="300") as line:
        await line.peer.speak(silence(2000, line.rate))
        await line.answered("Are you there")
        if name != "jambonz-files":  # there the end of the last file is the mark
            await line.peer.until(lambda: len(line.peer.marks) >= 2, "marks")
            assert line.peer.marks[:2] == ["p1", "p2"]


@pytest.mark.parametrize("name", ALL)
async def test_speech_over_the_prompt_clears_what_the_peer_has_and_is_answered(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name, hear="more") as line:
        peer = line.peer
        await peer.until(lambda: peer.audio, "first words")
        await peer.speak(speech(line.rate))
        await peer.until(lambda: peer.clears, "clear")
        await peer.speak(silence(1000, line.rate))
        await line.answered("Tell me more about that")
        assert line.running.metric("voicegate_barge_in_seconds_count") == 1


@pytest.mark.parametrize("name", ALL)
async def test_keys_stop_the_prompt_and_are_one_entry(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name) as line:
        peer = line.peer
        await peer.until(lambda: peer.audio, "first words")
        for digit in "44#":
            await peer.send(peer.digit(digit))
        await peer.until(lambda: peer.clears, "clear")
        await line.answered("Sorry")
        assert line.running.metric("voicegate_turns_total", outcome="dtmf") == 1


@pytest.mark.parametrize("name", ALL)
async def test_a_caller_who_hangs_up_ends_the_call_once(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name) as line:
        await line.peer.until(lambda: line.peer.audio, "first words")
        await line.peer.hang_up()
        assert await line.peer.closed() == 1000
        await line.running.no_calls()
        assert line.running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


@pytest.mark.parametrize("name", ALL)
async def test_a_peer_that_vanishes_is_a_lost_call(tmp_path: Path, name: str) -> None:
    async with call(tmp_path, name) as line:
        await line.peer.until(lambda: line.peer.audio, "first words")
        line.peer.ws.transport.abort()
        await line.peer.reader
        await line.running.no_calls()
        assert line.running.metric("voicegate_calls_ended_total", ended_by="lost") == 1
        assert line.running.metric("voicegate_calls", protocol=line.peer.protocol) == 0


@pytest.mark.parametrize("name", ["asterisk-plain-ulaw", "freeswitch-json-16k", "jambonz-stream", "twilio"])
async def test_messages_of_any_size_give_the_same_samples(tmp_path: Path, name: str) -> None:
    """A stall and the burst after it, frames of an odd size: the recogniser is given the same."""
    heard = []
    for size_ms in (20, 33, 1000):
        async with call(tmp_path / str(size_ms), name, hear="more") as line:
            await line.greeted()
            await line.peer.speak(np.concatenate([speech(line.rate), silence(1000, line.rate)]), ms=size_ms)
            await line.answered("Tell me more about that")
            heard.append(line.running.asr.jobs[-1].pcm)
    assert all(np.array_equal(heard[0], other) for other in heard[1:])
