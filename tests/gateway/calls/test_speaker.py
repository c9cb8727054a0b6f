"""A call's voice: what is sent of a prompt, what is held, resumed and dropped, and when it has been heard."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from audio.formats import AudioFormat, Encoding, Pcm16
from dialogue.bots import load_bot
from dialogue.store import MemoryStore
from dialogue.turns import Say
from gateway.calls import speaker as speaker_module
from gateway.calls.playout_clock import PlayoutClock
from gateway.calls.services import Services
from gateway.calls.speaker import ReplyClock, Speaker, part_heard
from gateway.calls.websocket import Connection
from gateway.inference.local import LocalInference
from gateway.metrics import Metrics
from gateway.monitoring.call_watch import CallWatch
from gateway.outside.webhooks import Webhooks
from gateway.protocols.freeswitch import FreeSwitchProtocol
from gateway.protocols.jambonz import JambonzProtocol
from gateway.protocols.native import NativeProtocol
from gateway.protocols.seam import ClearPlayout, Command, PromptStarted, SendMark, WireProtocol
from gateway.settings import load
from tests.fakes import ScriptedAsr, ToneSynthesizer
from tests.gateway.harness import write_bot
from tts_stub.prompts import PromptCache

pytestmark = pytest.mark.unit

WORD_MS = 60  # of tests.fakes.ToneSynthesizer
LEAD_MS = 100


class Line:
    """The connection: keeps what is sent."""

    def __init__(self) -> None:
        self.audio = bytearray()
        self.sizes: list[int] = []

    def send(self, message: str | bytes | memoryview) -> None:
        if isinstance(message, str):  # of FreeSWITCH and jambonz, where they make files
            data = json.loads(message)["data"]
            message = base64.b64decode(data.get("audioData") or data["audioContent"])
        self.audio += message
        self.sizes.append(len(message))


@dataclass
class Rig:
    speaker: Speaker
    line: Line
    registry: CollectorRegistry
    clock: PlayoutClock
    told: list[Command] = field(default_factory=list)
    heard: int = 0
    bytes_per_ms: int = 16

    @property
    def sent_ms(self) -> float:
        return len(self.line.audio) / self.bytes_per_ms

    def of(self, kind: type[Command]) -> list[Command]:
        return [command for command in self.told if type(command) is kind]

    async def say(self, words: int, *, interruptible: bool = True, clock: ReplyClock | None = None) -> None:
        text = " ".join(["word"] * words)
        await self.speaker.say(Say(text=text, node="n", interruptible=interruptible), 1, clock=clock)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)


@asynccontextmanager
async def speaking(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fmt: AudioFormat | None = None, protocol: WireProtocol | None = None
) -> AsyncIterator[Rig]:
    monkeypatch.setattr(speaker_module, "_HEARD_GRACE_S", 0.01)
    fmt = fmt or AudioFormat()
    registry = CollectorRegistry()
    bot = load_bot(str(write_bot(folder / "tester")))
    line = Line()
    async with LocalInference(ScriptedAsr(), {}) as inference:
        prompts = PromptCache(ToneSynthesizer(), max_bytes=1 << 24, timeout_s=5)
        settings, metrics = load(environ={}, flags={"playout.lead_ms": LEAD_MS}), Metrics(registry)
        services = Services(
            settings=settings,
            inference=inference,
            bots={bot.name: bot},
            store=MemoryStore(),
            prompts=prompts,
            metrics=metrics,
            clock=PlayoutClock(asyncio.get_running_loop(), tick_s=0.005),
            webhooks=Webhooks(settings.webhooks, metrics),
        )
        told: list[Command] = []

        def heard() -> None:
            rig.heard += 1

        speaker = Speaker(
            services,
            protocol or NativeProtocol(),
            cast(Connection, line),
            bot=bot,
            fmt=fmt,
            tell=told.append,
            on_heard=heard,
            watch=CallWatch(services.bus),
        )
        mono = fmt.bytes_per_ms // fmt.channels
        rig = Rig(speaker, line, registry, services.clock, told, bytes_per_ms=mono)
        try:
            yield rig
        finally:
            speaker.close()
            assert speaker not in services.clock._players
            assert speaker._heard_timer is None
            await prompts.aclose()


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channels", [1, 2])
async def test_a_prompt_is_sent_whole_in_mono_and_marked_behind_its_last_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding, channels: int
) -> None:
    fmt = AudioFormat(encoding=encoding, sample_rate_hz=16000, channels=channels)
    async with speaking(tmp_path, monkeypatch, fmt) as rig:
        await rig.say(4)
        assert 0 < rig.sent_ms <= LEAD_MS + 20, "the first frames leave at once, and no more than the lead"
        assert not rig.speaker.heard.is_set()
        await rig.until(lambda: rig.of(SendMark))
        assert rig.sent_ms == 4 * WORD_MS
        assert rig.of(SendMark) == [SendMark("p1")]
        await asyncio.wait_for(rig.speaker.heard.wait(), 5)
        assert rig.heard == 1


async def test_audio_leaves_at_the_pace_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        begun = time.monotonic()
        await rig.say(6)
        while not rig.of(SendMark):
            elapsed_ms = (time.monotonic() - begun) * 1000
            assert rig.sent_ms <= elapsed_ms + LEAD_MS + 20
            await asyncio.sleep(0.002)
        assert (time.monotonic() - begun) * 1000 >= 6 * WORD_MS - LEAD_MS - 20
        await rig.speaker.heard.wait()
        assert (time.monotonic() - begun) * 1000 >= 6 * WORD_MS, "heard is when it was heard, not when it was sent"


async def test_prompts_queue_and_only_the_last_ones_end_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(1)
        await rig.say(2)
        rig.speaker.mark_reached("p1")
        assert not rig.speaker.heard.is_set()
        await rig.until(lambda: len(rig.of(SendMark)) == 2)
        assert rig.sent_ms == 3 * WORD_MS
        rig.speaker.mark_reached("nonsense")
        assert not rig.speaker.heard.is_set()
        rig.speaker.mark_reached("p2")  # the peer's word goes before the clock's
        assert rig.speaker.heard.is_set() and rig.heard == 1
        await asyncio.sleep(0.05)
        assert rig.heard == 1, "told once"


async def test_a_mark_claimed_before_it_was_sent_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(5)
        rig.speaker.mark_reached("p1")
        assert not rig.speaker.heard.is_set()


async def test_the_first_sound_tells_the_prompt_and_its_timing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(3, clock=ReplyClock("first_utterance_ms", time.monotonic() - 0.1))
        (told,) = rig.of(PromptStarted)
        assert isinstance(told, PromptStarted)
        assert (told.round_id, told.node, told.text) == (1, "n", "word word word")
        assert 100 <= told.timing["first_utterance_ms"] < 1000 and told.timing["tts_ms"] >= 0
        assert rig.speaker.hold(time.monotonic())
        rig.speaker.resume()  # the beginning is sent again, and not told again
        await rig.until(lambda: rig.of(SendMark))
        assert len(rig.of(PromptStarted)) == 1
        assert rig.registry.get_sample_value("voicegate_first_utterance_seconds_count") == 1
        await rig.say(1, clock=ReplyClock("endpoint_to_reply_ms", time.monotonic()))
        await rig.until(lambda: len(rig.of(PromptStarted)) == 2)
        assert rig.registry.get_sample_value("voicegate_endpoint_to_reply_seconds_count") == 1
        assert rig.registry.get_sample_value("voicegate_first_utterance_seconds_count") == 1


async def test_held_nothing_is_sent_and_resumed_it_goes_on_where_it_was_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(4)
        await rig.until(lambda: rig.sent_ms >= LEAD_MS + 40)
        assert rig.speaker.hold(time.monotonic())
        assert rig.of(ClearPlayout) == [ClearPlayout()]
        assert not rig.speaker.hold(time.monotonic()), "held already"
        held_at = rig.sent_ms
        await asyncio.sleep(0.05)
        assert rig.sent_ms == held_at and not rig.speaker.heard.is_set()
        rig.speaker.mark_reached("p1")
        assert not rig.speaker.heard.is_set(), "a mark that was cleared is no end"
        rig.speaker.resume()
        rig.speaker.resume()
        await rig.until(rig.speaker.heard.is_set)
        assert 0 < rig.sent_ms - 4 * WORD_MS <= LEAD_MS + 20, "what was cleared is sent again, and no more"
        assert len(rig.of(SendMark)) == 1


async def test_a_hold_behind_the_last_frame_takes_the_end_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is sent, the end not yet heard: the caller who speaks now must not count as having heard it."""
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(1)  # shorter than the lead: sent at once
        assert rig.of(SendMark) and not rig.speaker.heard.is_set()
        assert rig.speaker.hold(time.monotonic())
        await asyncio.sleep(0.1)
        assert not rig.speaker.heard.is_set()
        rig.speaker.resume()
        await rig.until(rig.speaker.heard.is_set)
        assert len(rig.of(SendMark)) == 2


async def test_stopped_the_rest_is_dropped_and_the_peer_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(5)
        await rig.say(5)
        rig.speaker.stop()
        sent = rig.sent_ms
        assert rig.speaker.heard.is_set() and rig.heard == 1
        assert len(rig.of(ClearPlayout)) == 1
        await asyncio.sleep(0.05)
        assert rig.sent_ms == sent and not rig.of(SendMark)
        await rig.say(1)
        assert rig.sent_ms == sent + WORD_MS, "a new prompt begins at once"
        rig.speaker.hold(time.monotonic())
        rig.speaker.stop()
        assert len(rig.of(ClearPlayout)) == 2, "held, the peer had been told"


async def test_stopping_in_silence_clears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.stop()
        rig.speaker.resume()
        assert not rig.speaker.hold(time.monotonic())
        assert not rig.told


async def test_what_may_not_be_interrupted_is_heard_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(3, interruptible=False)
        assert not rig.speaker.hold(time.monotonic())
        rig.speaker.stop()
        assert not rig.speaker.heard.is_set()
        await rig.say(1)
        await rig.until(rig.speaker.heard.is_set)
        assert rig.sent_ms == 4 * WORD_MS
        assert not rig.of(ClearPlayout)


async def test_a_call_that_ends_in_a_prompt_stops_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(9)
        rig.speaker.close()
        sent = rig.sent_ms
        await rig.until(lambda: rig.clock._timer is None)
        assert rig.sent_ms == sent


@pytest.mark.parametrize(
    ("text", "share", "heard"),
    [
        ("one two three", 0.0, ""),
        ("one two three", 0.5, "one"),
        ("one two three", 0.6, "one two"),
        ("one two three", 1.0, "one two three"),
        ("您的账单是八十四元", 0.5, "您的账单"),
        ("", 0.5, ""),
    ],
)
def test_the_words_heard_of_a_prompt_are_whole_ones(text: str, share: float, heard: str) -> None:
    assert part_heard(text, share) == heard


async def test_a_stop_tells_what_was_heard_since_all_had_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.speaker.say(Say(text="said before", node="n"), 1)
        await rig.until(rig.speaker.heard.is_set)
        await rig.speaker.say(Say(text="good morning", node="n"), 1)
        await rig.speaker.say(Say(text="who is speaking to me now", node="n", question=True), 1)
        await rig.until(lambda: rig.sent_ms >= 2 * WORD_MS + 2 * WORD_MS + 5 * WORD_MS)
        heard = rig.speaker.stop()
        assert heard is not None and heard.startswith("good morning") and not heard.endswith("now")
        assert rig.speaker.stop() is None, "nothing is left to drop"


async def test_a_peer_whose_marks_come_late_has_heard_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        monkeypatch.setattr(speaker_module, "_HEARD_GRACE_S", 1.0)
        await rig.say(1)
        await rig.until(lambda: rig.of(SendMark))
        await asyncio.sleep(WORD_MS / 1000 + 0.3)
        rig.speaker.mark_reached("p1")
        assert rig.speaker.heard.is_set() and 0.25 < rig.speaker._playout.lag_s < 0.45
        await rig.say(10)
        await asyncio.sleep(0.25)
        assert rig.speaker.stop() == "", "sent and not yet played"


async def test_what_the_caller_was_hearing_when_they_spoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        before = time.monotonic()
        assert rig.speaker.overlap(before) is None
        await rig.speaker.say(Say(text="good morning", node="n"), 1)
        begun = rig.speaker.sounded_at(1)
        assert begun is not None and before <= begun <= time.monotonic()
        await rig.speaker.say(Say(text="is that you", node="n", question=True), 1)
        first = rig.speaker.overlap(begun + 0.05)
        assert first is not None
        assert not first.question and 30 <= first.call_age_ms <= 60 and 5 * WORD_MS - 60 <= first.left_ms <= 5 * WORD_MS
        await rig.until(lambda: rig.sent_ms == 5 * WORD_MS)
        await asyncio.sleep(0.06)
        last = rig.speaker.overlap(time.monotonic())
        assert last is not None and last.question and last.left_ms < 2 * WORD_MS
        assert rig.speaker.sounded_at(1) == begun
        assert rig.speaker.sounded_at(2) is None


async def test_what_is_said_while_the_caller_speaks_waits_and_is_no_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.wait(time.monotonic())
        await rig.say(2, clock=ReplyClock("endpoint_to_reply_ms", time.monotonic()))
        await asyncio.sleep(0.05)
        assert rig.sent_ms == 0 and not rig.told and rig.speaker.held
        rig.speaker.resume()
        await rig.until(rig.speaker.heard.is_set)
        assert rig.sent_ms == 2 * WORD_MS
        assert not rig.registry.get_sample_value("voicegate_endpoint_to_reply_seconds_count")


async def test_a_word_put_in_never_pushes_another_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        filler = Say(text="one moment", node="n")
        assert not rig.speaker.interject(filler, 1), "not in memory: no time to make it now"
        await rig.speaker.prepare(filler)
        assert rig.speaker.interject(filler, 1)
        assert not rig.speaker.interject(filler, 1), "it is still being said"
        await rig.say(1)
        await rig.until(rig.speaker.heard.is_set)
        assert rig.sent_ms == 3 * WORD_MS, "what follows waits for its end"


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_what_was_played_is_known_by_the_time_at_which_it_was_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    async with speaking(tmp_path, monkeypatch, AudioFormat(encoding=encoding)) as rig:
        assert rig.speaker.played(time.monotonic(), 8000) is None
        await rig.say(3)
        begun = rig.speaker.sounded_at(1)
        assert begun is not None
        await rig.until(lambda: rig.of(SendMark))
        played = rig.speaker.played(begun + 0.4, 4000)
        assert played is not None and len(played) == 4000
        loud = np.flatnonzero(np.abs(played) > 100)
        assert 800 <= loud[0] <= 800 + 8 * 50 and loud[-1] - loud[0] == pytest.approx(3 * WORD_MS * 8, abs=100)
        assert rig.speaker.played(begun + 2.0, 8000) is None, "long over"


async def test_what_a_peer_plays_late_is_known_by_when_it_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its echo comes as late: looked for by when it was sent, it was nobody's but the caller's."""
    async with speaking(tmp_path, monkeypatch) as rig:
        await rig.say(3)
        begun = rig.speaker.sounded_at(1)
        assert begun is not None
        await rig.until(lambda: rig.of(SendMark))
        in_time = rig.speaker.played(begun + 0.4, 4000)
        rig.speaker._playout.lag_s = 1.5
        late = rig.speaker.played(begun + 0.4 + 1.45, 4000)
        assert late is not None and in_time is not None
        np.testing.assert_array_equal(late, in_time)
        await rig.until(rig.speaker.heard.is_set)
        assert rig.speaker.played(time.monotonic(), 8000 * 3) is not None, "kept for as much longer"


async def test_what_must_be_heard_and_was_held_before_it_sounded_is_said_when_the_words_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be stopped, so a stop is what ends the hold: nothing else would but the limit, seconds later."""
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.wait(time.monotonic())
        await rig.say(2, interruptible=False)
        assert rig.speaker.held and rig.sent_ms == 0
        assert rig.speaker.stop() is None
        await rig.until(rig.speaker.heard.is_set)
        assert rig.sent_ms == 2 * WORD_MS


# A supervisor's voice.


VOICE = np.arange(1, 16001, dtype=np.int16)  # two seconds, no sample twice


async def relayed(rig: Rig, pcm: Pcm16, *, piece_ms: int = 20) -> list[bool]:
    """A microphone's pieces at their pace; whether each was taken."""
    size, begun, taken = piece_ms * 8, time.monotonic(), []
    for at in range(0, len(pcm), size):
        taken.append(rig.speaker.relay(pcm[at : at + size]))
        await asyncio.sleep(max(0.0, begun + (at + size) / 8000 - time.monotonic()))
    return taken


@pytest.mark.parametrize(
    ("protocol", "file_ms"),
    [
        (FreeSwitchProtocol(), 320),
        (FreeSwitchProtocol({"chunk_ms": "100"}), 100),
        (JambonzProtocol({"playback": "files"}), 320),
        (JambonzProtocol({"playback": "files", "chunk_ms": "10000"}), 500),
    ],
)
async def test_a_supervisors_voice_is_sent_in_files_as_long_as_the_dialects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: WireProtocol, file_ms: int
) -> None:
    protocol.default_start()
    async with speaking(tmp_path, monkeypatch, protocol=protocol) as rig:
        rig.speaker.mute()
        assert all(await relayed(rig, VOICE))
        whole = 2000 // file_ms
        await rig.until(lambda: len(rig.line.sizes) == whole)
        assert rig.line.sizes == [file_ms * 16] * whole
        assert bytes(rig.line.audio) == VOICE.tobytes()[: whole * file_ms * 16]


async def test_what_is_no_whole_file_at_the_hand_back_is_no_part_of_the_next_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = FreeSwitchProtocol()
    protocol.default_start()
    async with speaking(tmp_path, monkeypatch, protocol=protocol) as rig:
        rig.speaker.mute()
        assert rig.speaker.relay(VOICE[:800]) and not rig.line.sizes
        rig.speaker.unmute()
        rig.speaker.mute()
        assert rig.speaker.relay(VOICE[800 : 800 + 2560])
        assert bytes(rig.line.audio) == VOICE[800 : 800 + 2560].tobytes()


async def test_a_supervisors_voice_goes_on_as_it_comes_where_audio_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.mute()
        assert rig.speaker.relay(VOICE[:160]) and bytes(rig.line.audio) == VOICE[:160].tobytes()


async def test_of_a_supervisors_voice_a_second_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.mute()
        taken = [rig.speaker.relay(VOICE[at : at + 800]) for at in range(0, 16000, 800)]
        assert taken == [True] * 11 + [False] * 9


async def test_what_a_peer_that_plays_late_holds_of_a_supervisors_voice_does_not_wait_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, monkeypatch) as rig:
        rig.speaker.mute()
        rig.speaker._playout.lag_s = 2.0
        assert all(await relayed(rig, VOICE))
