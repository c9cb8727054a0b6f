"""A line that gives back what it is sent: real prompts over a real socket, in real time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from audio.endpointing import EndpointSettings
from audio.formats import AudioFormat, Pcm16
from audio.inbound import InboundChain, InboundEvent, SpeechStarted
from gateway.calls.echo_filter import EchoFilter
from gateway.calls.speaker import Speaker
from tests.gateway import harness
from tests.gateway.harness import Peer, silence, speech
from tests.gateway.test_turn_taking import Call, calling
from tts_stub.espeak import EspeakSynthesizer

pytestmark = pytest.mark.unit

FLOW = """
start: greet
no_match: {prompts: [Sorry], give_up: bye}
nodes:
  greet:
    say: Hello, this is River Energy. Your bill of eighty four dollars and fifty cents is due on Friday.
    on: {more: bye}
  bye: {say: Good bye, hang_up: done}
"""
FRAME_S = 0.02


class Line:
    """What a caller's microphone hears: the bot from 150 ms ago, quieter, and now and then the caller."""

    def __init__(self, peer: Peer, loss_db: float) -> None:
        self._peer = peer
        self._gain = 10 ** (-loss_db / 20)
        self._speech: Pcm16 = silence(0)
        self.spoke_at = 0.0
        self.stalls = False
        """What is heard meanwhile arrives at once afterwards."""

    def speak(self, pcm: Pcm16) -> None:
        self._speech, self.spoke_at = pcm, time.monotonic()

    async def run(self) -> None:
        """Frames at real time until the connection is gone."""
        begun = time.monotonic()
        frame = 0
        waiting: list[Pcm16] = []
        rng = np.random.default_rng(1)
        while self._peer.ws.state.name == "OPEN":
            start = frame * 160 - 1200
            bot = np.frombuffer(bytes(self._peer.audio[max(0, start) * 2 : (start + 160) * 2]), np.int16)
            heard = rng.normal(size=160) * 4
            if start >= 0:
                heard[: len(bot)] += bot * self._gain
            spoken, self._speech = self._speech[:160], self._speech[160:]
            heard[: len(spoken)] += spoken
            waiting.append(np.clip(np.rint(heard), -32768, 32767).astype(np.int16))
            if not self.stalls:
                await self._peer.send(np.concatenate(waiting), size=320 * len(waiting))
                waiting.clear()
            frame += 1
            await asyncio.sleep(max(0.0, begun + frame * FRAME_S - time.monotonic()))


async def on_the_line(call: Call, loss_db: float) -> tuple[Line, asyncio.Task[None]]:
    line = Line(call.peer, loss_db)
    return line, asyncio.create_task(line.run())


@pytest.fixture(autouse=True)
def spoken_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "ToneSynthesizer", EspeakSynthesizer)


@pytest.mark.parametrize("loss_db", [10, 20])
async def test_the_bots_echo_neither_holds_it_nor_is_it_heard(tmp_path: Path, loss_db: float) -> None:
    async with calling(tmp_path, flow=FLOW, asr_partials="true") as call:
        line, running = await on_the_line(call, loss_db)
        await call.peer.event("mark", timeout_s=15)
        await asyncio.sleep(1.5)  # the delay, the detector's hang-over and the tail
        running.cancel()
        assert call.of("clear") == [] and call.transcripts() == [] and call.rig.asr.jobs == []
        assert call.verdicts("echo") >= 1, "the detector had taken it for speech"
        assert call.rig.metric("voicegate_barge_in_seconds_count") == 0


async def test_an_uplink_that_stalls_amid_echo_does_not_hold_the_prompt(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=FLOW) as call:
        line, running = await on_the_line(call, 10)
        await asyncio.sleep(1.0)
        line.stalls = True
        await asyncio.sleep(0.8)  # the audio before it is older than any echo would be
        assert call.of("clear") == []
        line.stalls = False
        await call.peer.event("mark", timeout_s=15)
        await asyncio.sleep(1.5)
        running.cancel()
        assert call.of("clear") == [] and call.rig.asr.jobs == []


@pytest.mark.parametrize("loss_db", [10, 20])
async def test_a_caller_over_the_echo_interrupts_and_is_heard_alone(tmp_path: Path, loss_db: float) -> None:
    async with calling(tmp_path, flow=FLOW, hear="more", asr_partials="true") as call:
        line, running = await on_the_line(call, loss_db)
        await asyncio.sleep(1.5)
        assert call.of("clear") == []
        line.speak(np.concatenate([speech(), silence(500)]))
        await call.peer.event("clear")
        taken_s = time.monotonic() - line.spoke_at
        assert taken_s < 1.0, "300 ms are the budget; a busy machine gets more (bench/barge_in.py measures)"
        assert (await call.peer.event("hangup", timeout_s=15))["reason"] == "done"
        running.cancel()
        assert call.verdicts("interruption") == 1
        assert False in [event["final"] for event in call.of("transcript")]
        assert max(len(job.pcm) for job in call.rig.asr.jobs) < len(speech()) + 8000, (
            "the recogniser is not given the bot's second and a half before it, for partials neither"
        )


async def test_the_prompt_that_goes_on_after_a_backchannel_is_not_held_by_its_own_echo(tmp_path: Path) -> None:
    async with calling(tmp_path, flow=FLOW, hear="okay") as call:
        line, running = await on_the_line(call, 15)
        await asyncio.sleep(1.0)
        line.speak(speech()[:6000])
        await call.peer.event("clear")
        await call.peer.event("mark", timeout_s=15)
        await asyncio.sleep(1.0)
        running.cancel()
        assert len(call.of("clear")) == 1 and call.transcripts() == []
        assert call.verdicts("backchannel") == 1


async def test_a_silent_caller_on_a_line_with_echo_is_asked_again(tmp_path: Path) -> None:
    """The prompt is heard while its echo goes on; nobody counted the silence after that."""
    flow = FLOW.replace("no_match:", "no_input: {after_ms: 500, prompts: [Are you there], give_up: bye}\nno_match:", 1)
    async with calling(tmp_path, flow=flow) as call:
        _, running = await on_the_line(call, 10)
        again = await call.peer.event("prompt", count=2, timeout_s=20)
        running.cancel()
        assert again["text"] == "Are you there"
        assert call.verdicts("echo") >= 1 and call.transcripts() == []


class Talking(Speaker):
    """A speaker that has played this so far."""

    __slots__ = ("pcm",)

    def __init__(self) -> None:
        self.pcm = silence(0)

    def played(self, until: float, samples: int) -> Pcm16:
        return np.concatenate([silence(2000), self.pcm])[-samples:]


class AlwaysSpeech:
    def is_speech(self, frame: bytes) -> bool:
        return True


async def test_echo_that_was_taken_for_speech_is_nothing_the_caller_has_said() -> None:
    """As speech it would be told in partials."""
    bot = (np.random.default_rng(1).normal(size=8000) * 3000).astype(np.int16)
    line = np.concatenate([silence(150), bot // 4])
    chain = InboundChain(AudioFormat(), EndpointSettings(), AlwaysSpeech())
    told: list[InboundEvent] = []
    echo = EchoFilter(chain, 8000, speech_over_echo=lambda event, now: told.append(event), echo_ended=lambda: None)
    echo.listen_to(speaker := Talking())
    for at in range(0, 3200, 160):
        speaker.pcm = bot[: at + 160]
        for event in chain.push(line[at : at + 160].tobytes()):
            told += echo.push(event, 0.0)
        if chain.samples_seen == 800:
            assert echo.so_far() is not None
    assert [type(event) for event in told] == [SpeechStarted]
    assert chain.so_far() is not None and echo.so_far() is None
    echo.close()
